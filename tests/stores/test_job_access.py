"""Who may go on waiting for a job: whoever its status URL would answer, and nobody else."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dues.ids import new_id
from dues.jobs.service import StatusDocument
from dues.jobs.status import jobs as resource
from dues.reads import parse_query
from dues.stores.job_access import look
from tests.factory import Factory

WHOLE = parse_query(resource, (), one=True)


@pytest.fixture
def viewers(make: Factory) -> tuple[dict[str, tuple[str, UUID]], list[Any]]:
    """Tokens of every kind of caller, and jobs: of the store's, of another's, and of no store."""
    owner, member, dead = make.user(), make.user(), make.user()
    store, other = make.store(owner), make.store()
    manager, support = make.staff(store, role="manager"), make.staff(store, role="support")
    people: dict[str, tuple[Any, dict[str, Any]]] = {
        "owner": (owner, {}),
        "member": (member, {}),
        "stranger": (make.user(), {}),
        "manager": (make.rows("select * from users where id = %(id)s", {"id": manager.user_id})[0], {}),
        "support": (make.rows("select * from users where id = %(id)s", {"id": support.user_id})[0], {}),
        "revoked": (member, {"revoked_at": "2026-01-01T00:00:00Z"}),
        "expired": (member, {"expires_in": timedelta(seconds=-1)}),
        "bound": (member, {"store": store}),
        "bound elsewhere": (member, {"store": other}),
        "deleted": (dead, {}),
    }
    tokens = {}
    for name, (user, columns) in people.items():
        token_id = new_id()
        tokens[name] = (make.token(user, id=token_id, **columns), token_id)
    make.rows("update users set deleted_at = now() where id = %(id)s", {"id": dead.id})
    rows = [(member, store), (member, other), (member, None), (dead, store)]
    defaults = {"kind": "test.work", "queue": "default"}
    jobs = [
        make.insert("jobs", {"id": new_id(), "owner_id": who.id, "store_id": where and where.id, **defaults})
        for who, where in rows
    ]
    return tokens, jobs


def test_it_is_the_rule_of_status_urls(app: Flask, client: FlaskClient, viewers: Any):
    tokens, jobs = viewers
    answered = set()
    with app.app_context():
        viewings = [(token_id, job.id) for _, token_id in tokens.values() for job in jobs]
        seen = {viewing for viewing, found in zip(viewings, look(viewings, WHOLE), strict=True) if found}
    for token, token_id in tokens.values():
        for job in jobs:
            answer = client.get(f"/v1/jobs/{job.id}", headers={"Authorization": f"Bearer {token}"})
            if answer.status_code == 200:
                answered.add((token_id, job.id))
    assert seen == answered
    assert len(seen) == 9


def test_nobody_waits(app: Flask):
    with app.app_context():
        assert look([], WHOLE) == []
        assert look([(new_id(), new_id())], WHOLE) == [None]


def test_each_sees_the_document_that_the_status_url_would_answer(app: Flask, client: FlaskClient, viewers: Any):
    tokens, jobs = viewers
    token, token_id = tokens["member"]
    path, headers = f"/v1/jobs/{jobs[0].id}", {"Authorization": f"Bearer {token}"}
    with app.app_context():
        for query, search in (
            (WHOLE, ""),
            (parse_query(resource, [("fields", "id,done")], one=True), "?fields=id,done"),
        ):
            found = look([(token_id, jobs[0].id)] * 2, query)
            document = client.get(path + search, headers=headers).text
            assert found == [StatusDocument(document, 1, False)] * 2
