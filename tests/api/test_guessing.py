"""Guessing passwords: what may be tried on one account, from wherever, and what that tells."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from argon2 import PasswordHasher
from flask import Flask

from dues.accounts import passwords
from dues.accounts.passwords import Turns
from dues.clock import now
from dues.errors import Unavailable
from dues.postgres import transaction
from tests.factory import Factory
from tests.rows.people import PASSWORD
from tests.servers import wait_until

MOST = 10


def log_in(app: Flask, email: str, password: str = "a wrong guess") -> Any:
    return app.test_client().post("/v1/tokens", json={"email": email, "password": password})


def change(app: Flask, auth: dict[str, str], **body: str) -> Any:
    return app.test_client().patch("/v1/me", json=body, headers=auth)


@pytest.fixture
def user(make: Factory):
    return make.user(email="ada@example.com")


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
def test_after_ten_wrong_passwords_an_e_mail_has_to_wait_whether_it_has_an_account_or_not(app: Flask, user, email: str):
    spelt = [email, email.upper(), email.capitalize()]
    statuses = [log_in(app, spelt[n % 3]).status_code for n in range(MOST + 3)]
    assert statuses == [401] * MOST + [429] * 3
    refused = log_in(app, email)
    assert refused.json["code"] == "too_many_attempts"
    assert 0 < int(refused.headers["Retry-After"]) <= 900
    # The right password is no way around, and tells nothing.
    assert log_in(app, email, PASSWORD).json["detail"] == refused.json["detail"]
    assert log_in(app, "another@example.com").status_code == 401


def test_of_many_tries_at_once_no_more_are_answered(app: Flask, user):
    passwords.share_threads(100)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = Counter(pool.map(lambda _: log_in(app, "ada@example.com").status_code, range(3 * MOST)))
    finally:
        passwords.share_threads(8)
    assert found == {401: MOST, 429: 2 * MOST}


def test_log_ins_that_succeed_count_for_nothing(app: Flask, user):
    assert {log_in(app, user.email, PASSWORD).status_code for _ in range(MOST + 5)} == {201}
    assert [log_in(app, user.email).status_code for _ in range(MOST + 1)] == [401] * MOST + [429]


def test_what_there_was_no_time_to_check_counts_for_nothing(app: Flask, make: Factory, user):
    """Otherwise whoever keeps the server busy would lock out everybody who logs in meanwhile."""
    auth = make.auth(user)
    with pytest.MonkeyPatch.context() as busy:
        busy.setattr(passwords, "_turns", Turns(1, most=0))
        assert {log_in(app, user.email).status_code for _ in range(MOST)} == {503}
        assert {change(app, auth, current_password="x", name="New").status_code for _ in range(MOST)} == {503}
    assert [log_in(app, user.email).status_code for _ in range(MOST + 1)] == [401] * MOST + [429]


def test_a_window_ends_by_the_clock_of_postgresql_alone(app: Flask, make: Factory, user):
    for _ in range(MOST):
        log_in(app, user.email)
    with time_machine.travel(now() + timedelta(days=1), tick=False):
        assert log_in(app, user.email).status_code == 429
    make.rows("update account_attempts set ends_at = now()")
    assert log_in(app, user.email).status_code == 401


def test_a_stolen_token_guesses_no_faster(app: Flask, make: Factory, user):
    auths = [make.auth(user) for _ in range(MOST)]
    bodies: list[dict[str, str]] = [{"name": "New"}, {"email": "new@example.com"}, {"password": "another password"}]
    for n, auth in enumerate(auths):
        answer = change(app, auth, current_password="a wrong guess", **bodies[n % 3])
        assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "wrong")
    assert change(app, auths[0], current_password=PASSWORD, password="another password").status_code == 429
    assert log_in(app, user.email, PASSWORD).status_code == 429
    # What needs no password can be done meanwhile.
    assert change(app, auths[0], name="New").status_code == 200


def test_the_table_of_tries_names_nobody(app: Flask, make: Factory, user):
    log_in(app, user.email)
    (row,) = make.rows("select * from account_attempts")
    assert "ada" not in str(row)
    assert b"ada" not in bytes(row.key)


class TestHashing:
    def test_is_refused_inside_a_transaction(self, app: Flask):
        with app.app_context(), transaction(), pytest.raises(RuntimeError, match="before transaction"):
            passwords.hash_password(PASSWORD)

    def test_a_log_in_holds_no_connection_while_it_hashes(
        self, app: Flask, make: Factory, user, monkeypatch: pytest.MonkeyPatch
    ):
        busy: list[int] = []
        open_transactions = (
            "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in trans%'"
        )
        verify = PasswordHasher.verify

        def watched(*args: Any) -> bool:
            busy.append(make.value(open_transactions))
            return verify(*args)

        monkeypatch.setattr(PasswordHasher, "verify", watched)
        body = {"email": user.email, "password": PASSWORD}
        assert app.test_client().post("/v1/tokens", json=body, headers={"Idempotency-Key": "k"}).status_code == 201
        assert change(app, make.auth(user), current_password=PASSWORD, password="another password").status_code == 200
        assert busy == [0, 0]

    def test_few_threads_are_at_it_and_the_rest_are_told_to_come_back(self):
        turns = Turns(1, most=2)
        with ThreadPoolExecutor(1) as pool:
            with turns.turn():
                second = pool.submit(self._take, turns)
                wait_until(lambda: turns._here == 2, what="the second to wait")
                with pytest.raises(Unavailable), turns.turn():
                    pass
            assert second.result()
        with turns.turn():
            pass

    def test_nobody_waits_for_ever(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(passwords, "_LONGEST_WAIT_S", 0.01)
        turns = Turns(1, most=2)
        with turns.turn(), pytest.raises(Unavailable), turns.turn():
            pass

    def test_a_process_without_a_free_place_answers_503(self, app: Flask, user, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(passwords, "_turns", Turns(1, most=0))
        answer = log_in(app, user.email, PASSWORD)
        assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "busy", "1")

    @staticmethod
    def _take(turns: Turns) -> bool:
        with turns.turn():
            return True


def test_the_log_of_postgresql_has_no_hash_and_no_address(app: Flask, make: Factory, postgres_log: Path):
    """Taken values are found out before anything is written, since PostgreSQL logs the statements that it refuses."""
    client = app.test_client()
    owner, other = make.user(email="taken@secret.example"), make.user(email="ada@secret.example")
    store, _ = make.store(owner, slug="taken-slug"), make.store(owner)
    before = postgres_log.stat().st_size
    auth = make.auth(other)
    body = {"email": "Taken@secret.example", "name": "Ada", "password": "a rather secret one"}
    assert client.post("/v1/users", json=body).status_code == 409
    body = {"email": "taken@secret.example", "password": "a rather secret one", "current_password": PASSWORD}
    assert client.patch("/v1/me", json=body, headers=auth).status_code == 409
    body = {"name": "Shop", "slug": store.slug, "currency": "EUR"}
    assert client.post("/v1/stores", json=body, headers=auth).status_code == 409
    mine = make.store(other)
    assert client.patch(f"/v1/stores/{mine.id}", json={"slug": store.slug}, headers=auth).status_code == 409
    narrow = {"name": "x", "scopes": ["jobs:read"], "store_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"}
    assert client.post("/v1/tokens", json=narrow, headers=auth).status_code == 422
    with postgres_log.open(errors="replace") as log:
        log.seek(before)
        said = log.read()
    assert "violates" not in said
    for secret in ("secret.example", "argon2", "taken-slug"):
        assert secret not in said
