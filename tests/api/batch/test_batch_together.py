"""Creations of one kind in a batch are done together, with the answers that they have alone."""

from types import SimpleNamespace as Made
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient

from dues.errors import Forbidden
from dues.postgres.unit_of_work import UnitOfWork
from tests.api.batch.conftest import Post, owner_of
from tests.factory import Factory
from tests.recorder import QueryRecorder


def test_a_hundred_creations_take_far_fewer_statements_than_a_hundred_requests(
    post: Post, client: FlaskClient, packages: Any, store: Made, make: Factory, queries: QueryRecorder
) -> None:
    operations = [packages(f"p{i}") for i in range(100)]
    auth = make.auth(owner_of(make, store))
    with queries() as alone:
        for operation in operations[:10]:
            assert client.post(operation["path"], json=operation["body"], headers=auth).status_code == 201
    with queries() as together:
        assert post(*operations, atomic=True)[0] == 200
    assert len(together) < 120, str(together)
    assert len(alone) * 10 > 2.5 * len(together), f"{len(alone)} for ten, {len(together)} for a hundred"


def test_creations_of_one_kind_are_done_together(
    post: Post, client: FlaskClient, packages: Any, store: Made, make: Factory, queries: QueryRecorder
) -> None:
    """With the answers, the events and the keys that they have alone."""
    operations = [packages(f"p{i}") for i in range(100)]
    auth = make.auth(owner_of(make, store))
    with queries() as alone:
        for operation in operations[:10]:
            assert client.post(operation["path"], json=operation["body"], headers=auth).status_code == 201
    with queries() as together:
        status, first = post(*operations, key="k")
    assert (status, {result["status"] for result in first.values()}) == (207, {201})
    print(f"{len(alone) * 10} messages alone, {len(together)} together")
    assert 2.5 * len(together) < 10 * len(alone), str(together)
    _, again = post(*operations, key="k")
    assert [result["body"] for result in again.values()] == [result["body"] for result in first.values()]
    assert {result["headers"]["Idempotency-Replayed"] for result in again.values()} == {"true"}
    told = make.rows("select data ->> 'id' as id from events where store_id = %(id)s order by seq", {"id": store.id})
    assert [row.id for row in told][10:] == [result["body"]["id"] for result in first.values()]


@pytest.mark.parametrize("used", [0, 7, 29])
def test_keys_of_creations_that_are_done_together(
    post: Post, packages: Any, store: Made, client: FlaskClient, make: Factory, used: int
) -> None:
    """Are found out about at once; one that was used before is answered as before, wherever it is among them."""
    operations = [packages(f"p{i}") for i in range(30)]
    _, first = post(operations[used], key="k")
    _, all_ = post(*operations, key="k")
    assert {result["status"] for result in all_.values()} == {201}
    assert all_[f"p{used}"]["body"] == first[f"p{used}"]["body"]
    assert [id_ for id_, result in all_.items() if "Idempotency-Replayed" in result["headers"]] == [f"p{used}"]
    # And are the same that a single request has.
    headers = make.auth(owner_of(make, store)) | {"Idempotency-Key": "k/p3"}
    alone = client.post(operations[3]["path"], json=operations[3]["body"], headers=headers)
    assert (alone.json, alone.headers["Idempotency-Replayed"]) == (all_["p3"]["body"], "true")
    assert make.value("select count(*) from packages") == 30


LOST_COMMITS: dict[str, tuple[Exception, bool, int, int]] = {
    # What is raised; whether it was committed all the same; the status of each, and how many rows there are.
    "the connection broke, and it was committed": (psycopg2.OperationalError("gone"), True, 503, 10),
    "the connection broke, and it was not": (psycopg2.OperationalError("gone"), False, 503, 0),
    "something of ours failed after it": (RuntimeError("a callback"), True, 500, 10),
    "a right was taken away": (Forbidden("gone"), False, 201, 10),
}


@pytest.mark.parametrize("name", LOST_COMMITS)
def test_what_may_have_been_done_is_not_done_again(
    post: Post, packages: Any, make: Factory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Of creations that are done together: they are done one by one only where nothing of them can be there."""
    error, is_committed, status, count = LOST_COMMITS[name]
    commit = UnitOfWork.commit

    def failing(work: UnitOfWork) -> None:
        monkeypatch.setattr(UnitOfWork, "commit", commit)
        if is_committed:
            commit(work)
        raise error

    operations = [packages(f"p{i}") for i in range(10)]
    monkeypatch.setattr(UnitOfWork, "commit", failing)
    _, results = post(*operations)
    assert {result["status"] for result in results.values()} == {status}
    assert make.value("select count(*) from packages") == count
