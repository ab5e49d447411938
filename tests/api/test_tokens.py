from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import pytest
from argon2 import PasswordHasher

from dues.accounts.actor import SCOPES
from dues.accounts.passwords import is_outdated
from tests.contention import Contention
from tests.factory import Factory
from tests.recorder import QueryRecorder
from tests.rows.people import PASSWORD

PATH = "/v1/tokens"


@pytest.fixture
def user(make: Factory):
    return make.user(email="ada@example.com")


def log_in(client, email: str = "ada@example.com", password: str = PASSWORD, **headers: str) -> Any:
    return client.post(PATH, json={"email": email, "password": password}, headers=headers)


def bearer(answer: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json['token']}"}


def seconds_left(answer: Any) -> float:
    return (datetime.fromisoformat(answer.json["expires_at"]) - datetime.now(UTC)).total_seconds()


class TestLoggingIn:
    def test_gives_a_token_with_every_scope_for_30_days(self, client, user):
        answer = log_in(client)
        assert answer.status_code == 201
        token = answer.json
        assert token == {
            "id": ANY,
            "token": ANY,
            "name": "log-in",
            "scopes": list(SCOPES),
            "store_id": None,
            "expires_at": ANY,
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {"self": f"/v1/tokens/{token['id']}"},
        }
        assert len(SCOPES) == 18
        assert 0 <= timedelta(days=30).total_seconds() - seconds_left(answer) < 60
        assert answer.headers["Location"] == token["links"]["self"]
        assert client.get("/v1/me", headers=bearer(answer)).json["id"] == str(user.id)

    def test_the_token_is_shown_once_and_kept_nowhere(self, client, make: Factory, user):
        answer = log_in(client)
        token = answer.json["token"]
        assert token.startswith("dues_")
        assert len(token) == 48
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert token not in client.get(PATH, headers=bearer(answer)).text
        assert token not in str(make.rows("select * from api_tokens"))

    def test_the_e_mails_case_does_not_matter(self, client, user):
        assert log_in(client, "ADA@example.COM").status_code == 201

    @pytest.mark.parametrize(
        ("email", "password"),
        [("ada@example.com", "wrong"), ("bob@example.com", PASSWORD), ("", ""), ("ada@example.com", PASSWORD + " ")],
    )
    def test_with_anything_wrong_is_refused_alike(self, client, user, email: str, password: str):
        answer = log_in(client, email, password)
        assert (answer.status_code, answer.json["code"]) == (401, "bad_credentials")
        assert answer.json["detail"] == "the e-mail or the password is wrong"

    def test_who_has_left_cannot(self, client, make: Factory):
        make.user(email="gone@example.com", deleted_at="2026-01-01")
        assert log_in(client, "gone@example.com").status_code == 401

    def test_does_the_same_work_for_an_e_mail_that_nobody_has(
        self, client, user, make: Factory, queries: QueryRecorder, monkeypatch: pytest.MonkeyPatch
    ):
        """What takes the time is the check of a hash: one of the same cost must be checked in either case."""
        make.rows(
            "update users set password_hash = %(hash)s",
            {"hash": PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1).hash(PASSWORD)},
        )
        checked: list[str] = []
        verify = PasswordHasher.verify

        def watched(self: PasswordHasher, password_hash: str, password: str) -> Any:
            checked.append(password_hash.split("$")[3])
            return verify(self, password_hash, password)

        monkeypatch.setattr(PasswordHasher, "verify", watched)
        with queries() as known:
            log_in(client, "ada@example.com", "wrong")
        with queries() as unknown:
            log_in(client, "nobody@example.com", "wrong")
        assert checked == ["m=19456,t=2,p=1"] * 2
        assert len(known) == len(unknown)

    def test_makes_an_outdated_hash_anew(self, client, make: Factory, user):
        assert is_outdated(user.password_hash)
        log_in(client, password="wrong")
        assert make.value("select password_hash from users") == user.password_hash
        assert log_in(client).status_code == 201
        assert not is_outdated(make.value("select password_hash from users"))
        assert log_in(client).status_code == 201

    def test_two_at_once_with_an_outdated_hash_both_succeed(self, client, user, contention: Contention):
        with contention.held("select 1 from users where id = %(id)s for update", id=user.id):
            answers = contention.start(lambda: log_in(client), lambda: log_in(client))
        assert [answer.result().status_code for answer in answers] == [201, 201]

    def test_with_a_password_that_is_changed_meanwhile_is_refused(self, client, user, contention: Contention):
        change = "update users set password_hash = 'another' where id = %(id)s"
        with contention.held(change, id=user.id):
            (late,) = contention.start(lambda: log_in(client))
        assert late.result().status_code == 401

    def test_a_body_is_validated(self, client, user):
        for body in (
            {},
            {"email": "ada@example.com"},
            {"email": "ada@example.com", "password": 1},
            {"email": "ada@example.com", "password": PASSWORD, "scopes": ["account:read"]},
            {"email": "ada@example.com", "password": "x" * 201},
        ):
            assert client.post(PATH, json=body).status_code == 422, body

    def test_a_bad_token_is_no_log_in(self, client, user):
        assert log_in(client, Authorization="Bearer dues_nonsense").status_code == 401
        assert log_in(client, Authorization="Basic YTpi").status_code == 401


class TestIdempotency:
    def test_the_same_request_gets_the_same_token_which_no_table_holds(self, client, make: Factory, user):
        first, again = (log_in(client, **{"Idempotency-Key": "k"}) for _ in range(2))
        assert again.json == first.json
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers["Cache-Control"] == "no-store"
        assert client.get("/v1/me", headers=bearer(again)).status_code == 200
        assert make.value("select count(*) from api_tokens") == 1
        (kept,) = make.rows("select * from idempotency_keys")
        assert first.json["id"] in kept.body
        for secret in (first.json["token"], first.json["token"].removeprefix("dues_"), PASSWORD):
            assert secret not in str(kept)

    def test_other_keys_get_other_tokens(self, client, user):
        tokens = {log_in(client, **headers).json["token"] for headers in ({"Idempotency-Key": k} for k in "ab")}
        tokens |= {log_in(client).json["token"] for _ in range(2)}
        assert len(tokens) == 4

    def test_another_body_is_refused(self, client, user):
        log_in(client, **{"Idempotency-Key": "k"})
        answer = log_in(client, "Ada@example.com", **{"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")

    def test_with_a_password_that_no_longer_holds_nothing_is_given_again(self, client, make: Factory, user):
        first = log_in(client, **{"Idempotency-Key": "k"})
        body = {"password": "another password", "current_password": PASSWORD}
        assert client.patch("/v1/me", json=body, headers=bearer(first)).status_code == 200
        assert log_in(client, **{"Idempotency-Key": "k"}).status_code == 401

    def test_a_refusal_is_not_kept(self, client, make: Factory, user):
        assert log_in(client, password="guess", **{"Idempotency-Key": "k"}).status_code == 401
        assert log_in(client, **{"Idempotency-Key": "k"}).status_code == 201

    def test_a_narrower_token_is_given_again_only_to_the_token_that_asked(self, client, make: Factory, user):
        body = {"name": "all", "scopes": ["account:write", "payments:read"]}
        strong, weak = make.auth(user), make.auth(user, "account:write")
        first, again = (client.post(PATH, json=body, headers={**strong, "Idempotency-Key": "k"}) for _ in range(2))
        assert again.json == first.json
        assert client.get("/v1/me", headers=bearer(first)).status_code == 403
        assert client.post(PATH, json=body, headers={**weak, "Idempotency-Key": "k"}).status_code == 403

    def test_while_the_first_still_runs_the_second_is_told_to_come_back(self, client, user, contention: Contention):
        with contention.held("select 1 from users where id = %(id)s for update", id=user.id):
            (first,) = contention.start(lambda: log_in(client, **{"Idempotency-Key": "k"}))
            second = log_in(client, **{"Idempotency-Key": "k"})
            assert (second.status_code, second.json["code"]) == (409, "idempotency_key_in_use")
            assert second.headers["Retry-After"] == "1"
        assert first.result().status_code == 201

    def test_a_key_is_visible_ascii(self, client, user):
        for key in ("", " ", "a b", "ä", "x" * 256):
            answer = log_in(client, **{"Idempotency-Key": key})
            assert (answer.status_code, answer.json["code"]) == (400, "invalid_idempotency_key"), key


class TestNarrowing:
    def narrow(self, client, auth: dict[str, str], **body: Any) -> Any:
        return client.post(PATH, json={"name": "till", "scopes": ["catalog:read"], **body}, headers=auth)

    def test_gives_some_of_the_scopes(self, client, make: Factory, user):
        scopes = ["payments:read", "account:read", "payments:read"]
        answer = self.narrow(client, make.auth(user), scopes=scopes, expires_in=60)
        assert answer.status_code == 201
        assert (answer.json["name"], answer.json["scopes"]) == ("till", ["account:read", "payments:read"])
        assert 50 < seconds_left(answer) <= 60
        assert answer.headers["Cache-Control"] == "no-store"
        assert client.get("/v1/me", headers=bearer(answer)).status_code == 200
        assert client.get("/v1/stores", headers=bearer(answer)).status_code == 200
        assert client.patch("/v1/me", json={}, headers=bearer(answer)).status_code == 403

    def test_never_gives_a_scope_that_the_caller_lacks(self, client, make: Factory, user):
        auth = make.auth(user, "account:write", "catalog:read")
        assert self.narrow(client, auth).status_code == 201
        answer = self.narrow(client, auth, scopes=["catalog:read", "payments:read"])
        assert (answer.status_code, answer.json["code"]) == (403, "insufficient_scope")
        assert "payments:read" in answer.json["detail"]

    def test_needs_the_scope_to_write_the_account(self, client, make: Factory, user):
        assert self.narrow(client, make.auth(user, "account:read", "catalog:read")).status_code == 403

    def test_never_outlives_the_caller(self, client, make: Factory, user):
        auth = make.auth(user, expires_in=timedelta(minutes=5))
        assert 200 < seconds_left(self.narrow(client, auth)) <= 300
        assert 200 < seconds_left(self.narrow(client, auth, expires_in=86400)) <= 300
        assert seconds_left(self.narrow(client, auth, expires_in=10)) <= 10

    def test_can_be_bound_to_a_store(self, client, make: Factory, user):
        mine, other = make.store(user), make.store(user)
        answer = self.narrow(client, make.auth(user), store_id=str(mine.id))
        assert answer.json["store_id"] == str(mine.id)
        statuses = [
            client.get(f"/v1/stores/{store.id}/staff", headers=bearer(answer)).status_code for store in (mine, other)
        ]
        assert statuses == [200, 403]

    def test_a_bound_token_gives_only_tokens_of_its_store(self, client, make: Factory, user):
        mine, other = make.store(user), make.store(user)
        auth = make.auth(user, store=mine)
        assert self.narrow(client, auth).json["store_id"] == str(mine.id)
        assert self.narrow(client, auth, store_id=None).json["store_id"] == str(mine.id)
        assert self.narrow(client, auth, store_id=str(mine.id)).status_code == 201
        answer = self.narrow(client, auth, store_id=str(other.id))
        assert (answer.status_code, answer.json["code"]) == (403, "wrong_store")

    def test_not_to_a_store_that_does_not_exist(self, client, make: Factory, user):
        answer = self.narrow(client, make.auth(user), store_id="019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20")
        assert answer.status_code == 422
        assert answer.json["errors"][0]["pointer"] == "#/store_id"

    def test_all_faults_are_told_at_once(self, client, make: Factory, user):
        body = {
            "name": "",
            "scopes": ["catalog:read", "catalog", 7],
            "store_id": "x",
            "expires_in": 0,
            "email": "ada@example.com",
        }
        answer = self.narrow(client, make.auth(user), **body)
        assert answer.status_code == 422
        assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
            "#/email": "unknown",
            "#/expires_in": "range",
            "#/name": "length",
            "#/scopes/1": "choice",
            "#/scopes/2": "type",
            "#/store_id": "format",
        }

    def test_scopes_are_a_list_that_names_some(self, client, make: Factory, user):
        wrong: tuple[object, ...] = ([], "catalog:read", None)
        for scopes in wrong:
            assert self.narrow(client, make.auth(user), scopes=scopes).status_code == 422, scopes

    def test_lifetimes_are_bounded(self, client, make: Factory, user):
        for expires_in in (-1, 30 * 86400 + 1, 1.5, "60"):
            assert self.narrow(client, make.auth(user), expires_in=expires_in).status_code == 422, expires_in

    def test_not_with_a_token_that_is_revoked_meanwhile(self, client, make: Factory, user, contention: Contention):
        auth = make.auth(user)
        new_password = (
            "update users set password_hash = 'another' where id = %(id)s",
            "update api_tokens set revoked_at = now() where user_id = %(id)s",
        )
        with contention.held(*new_password, id=user.id):
            (late,) = contention.start(lambda: self.narrow(client, auth))
        assert late.result().status_code == 401
        assert make.value("select count(*) from api_tokens where revoked_at is null") == 0


class TestListingAndRevoking:
    def test_those_in_force_are_listed(self, client, make: Factory, user):
        auth = make.auth(user, name="newest")
        make.token(user, name="expired", expires_in=timedelta(seconds=-1))
        make.token(user, name="revoked", revoked_at="2026-01-01")
        make.token(make.user(), name="somebody else's")
        make.token(user, "account:read", name="older", created_at="2026-01-01")
        listed = client.get(PATH, headers=auth).json
        assert [token["name"] for token in listed["data"]] == ["newest", "older"]
        assert listed["meta"]["total"] == 2
        older = client.get(listed["data"][1]["links"]["self"], headers=auth)
        assert older.json == listed["data"][1]
        assert older.json["scopes"] == ["account:read"]

    def test_one_revoked_opens_nothing_from_then_on(self, client, make: Factory, user):
        auth, other = make.auth(user), make.auth(user)
        url = {token["id"]: token["links"]["self"] for token in client.get(PATH, headers=auth).json["data"]}
        other_id = next(iter(client.get(f"{PATH}?per_page=1", headers=auth).json["data"]))["id"]
        answer = client.delete(url[other_id], headers=auth)
        assert (answer.status_code, answer.data) == (204, b"")
        assert client.get("/v1/me", headers=other).status_code == 401
        assert client.get("/v1/me", headers=auth).status_code == 200
        assert client.delete(url[other_id], headers=auth).status_code == 404
        assert client.get(url[other_id], headers=auth).status_code == 404

    def test_a_token_can_revoke_itself(self, client, user):
        answer = log_in(client)
        assert client.delete(answer.headers["Location"], headers=bearer(answer)).status_code == 204
        assert client.delete(answer.headers["Location"], headers=bearer(answer)).status_code == 401

    def test_others_tokens_are_not_there(self, client, make: Factory, user):
        make.token(make.user())
        token_id = make.value("select id from api_tokens")
        assert client.delete(f"{PATH}/{token_id}", headers=make.auth(user)).status_code == 404
        assert make.value("select count(*) from api_tokens where revoked_at is null") == 2

    def test_a_bound_token_sees_and_revokes_only_those_of_its_store(self, client, make: Factory, user):
        store = make.store(user)
        make.token(user, name="everywhere")
        everywhere = make.value("select id from api_tokens")
        auth = make.auth(user, store=store, name="bound")
        assert [token["name"] for token in client.get(PATH, headers=auth).json["data"]] == ["bound"]
        assert client.get(f"{PATH}/{everywhere}", headers=auth).status_code == 404
        assert client.delete(f"{PATH}/{everywhere}", headers=auth).status_code == 404

    def test_revoking_needs_the_scope_and_the_version(self, client, make: Factory, user):
        auth = make.auth(user)
        url = client.get(PATH, headers=auth).json["data"][0]["links"]["self"]
        assert client.delete(url, headers=make.auth(user, "account:read")).status_code == 403
        assert client.delete(url, headers={**auth, "If-Match": '"9.x"'}).status_code == 412
        assert client.delete(url, headers={**auth, "If-Match": "*"}).status_code == 204

    def test_the_list_is_one_statement(self, client, make: Factory, user, queries: QueryRecorder):
        auth = make.auth(user)
        with queries() as seen:
            client.get(PATH, headers=auth)
        assert len(seen) == 2, seen  # the token's, and this one


def test_what_is_no_token_is_refused(client):
    for header in ("", "Bearer", "Bearer ", "Basic YTpi", "dues_x", "Bearer dues_é", "Bearer " + "x" * 5000):
        answer = client.get("/v1/me", headers={"Authorization": header})
        assert answer.status_code == 401, header
        assert "WWW-Authenticate" in answer.headers, header
