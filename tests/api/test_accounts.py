from unittest.mock import ANY

import pytest

from dues.accounts.passwords import is_password
from dues.postgres.constraints import lock_key
from tests.contention import Contention
from tests.factory import Factory
from tests.mail.test_address import IMPOSSIBLE, SAME
from tests.recorder import QueryRecorder
from tests.rows.people import PASSWORD

ADA = {"email": "Ada@Example.com", "name": "Ada Lovelace", "password": "first programme"}


def pointers(answer):
    return {fault["pointer"]: fault["code"] for fault in answer.json["errors"]}


class TestSigningUp:
    def test_answers_with_the_account(self, client, make: Factory):
        answer = client.post("/v1/users", json=ADA)
        assert answer.status_code == 201
        user = answer.json
        assert user == {
            "id": ANY,
            "email": "Ada@Example.com",
            "email_verified": False,
            "name": "Ada Lovelace",
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {
                "self": "/v1/me",
                "profile": f"/v1/users/{user['id']}",
                "addresses": "/v1/me/addresses",
                "payments": "/v1/me/payments",
                "subscriptions": "/v1/me/subscriptions",
            },
        }
        assert answer.headers["Location"] == f"/v1/users/{user['id']}"
        assert client.get(answer.headers["Location"]).status_code == 200
        kept = make.value("select password_hash from users where id = %(id)s", {"id": user["id"]})
        assert is_password(ADA["password"], kept)

    @pytest.mark.parametrize("email", ["Ada@Example.com", "ada@example.com", "ADA@EXAMPLE.COM"])
    def test_an_e_mail_has_one_account_whatever_its_case(self, client, email: str):
        client.post("/v1/users", json=ADA)
        answer = client.post("/v1/users", json={**ADA, "email": email})
        assert (answer.status_code, answer.json["code"]) == (409, "email_taken")

    @pytest.mark.parametrize(("first", "second"), SAME)
    def test_a_mailbox_has_one_account_however_it_is_spelt(self, client, first: str, second: str):
        assert client.post("/v1/users", json={**ADA, "email": first}).json["email"] == first
        answer = client.post("/v1/users", json={**ADA, "email": second})
        assert (answer.status_code, answer.json["code"]) == (409, "email_taken")
        assert client.post("/v1/tokens", json={"email": second, "password": ADA["password"]}).status_code == 201

    def test_what_can_be_no_mailbox_is_refused(self, client):
        for email in IMPOSSIBLE:
            answer = client.post("/v1/users", json={**ADA, "email": email, "admin": True})
            assert answer.status_code == 422, email
            assert pointers(answer).keys() == {"#/email", "#/admin"}, email

    def test_of_two_at_once_one_gets_the_e_mail(self, client, make: Factory, contention: Contention):
        insert = (
            "insert into users(id, email, name, password_hash)"
            " values ('019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20', 'ada@example.com', 'Ada', '')"
        )
        with contention.held(insert):
            (late,) = contention.start(lambda: client.post("/v1/users", json=ADA))
        assert (late.result().status_code, late.result().json["code"]) == (409, "email_taken")
        assert make.value("select count(*) from users") == 1

    def test_all_faults_are_told_at_once(self, client):
        answer = client.post("/v1/users", json={"email": "ada", "name": "A\nB", "password": "short", "admin": True})
        assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
        assert pointers(answer) == {
            "#/admin": "unknown",
            "#/email": "pattern",
            "#/name": "pattern",
            "#/password": "length",
        }
        assert "must be: mail address" in answer.text
        assert "regex" not in answer.text

    def test_what_is_no_mail_address_is_refused(self, client):
        for email in (
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@example",
            "a da@example.com",
            "ada@@example.com",
            "ada@example..com",
            ".ada@example.com",
            "ada@-example.com",
            "ada@example.com\n",
            "ada@example.com\r\nBcc: eve@example.com",
            "Ada <ada@example.com>",
            f"{'a' * 65}@example.com",
            f"ada@{'a' * 250}.com",
        ):
            answer = client.post("/v1/users", json={**ADA, "email": email})
            assert answer.status_code == 422, email
            assert pointers(answer).keys() == {"#/email"}, email

    @pytest.mark.parametrize(
        "email", ["a+b@example.co.uk", "o'hara@example.com", "ada@bücher.example", "ä@example.com"]
    )
    def test_unusual_mail_addresses_are_taken(self, client, email: str):
        assert client.post("/v1/users", json={**ADA, "email": email}).status_code == 201

    @pytest.mark.parametrize(("length", "status"), [(7, 422), (8, 201), (200, 201), (201, 422)])
    def test_passwords_have_8_to_200_characters(self, client, length: int, status: int):
        assert client.post("/v1/users", json={**ADA, "password": ("xyz7" * 51)[:length]}).status_code == status

    def test_a_name_is_one_line(self, client):
        for name in ("", " ", "\t", "x" * 201, "a\u0000b"):
            assert client.post("/v1/users", json={**ADA, "name": name}).status_code in (400, 422), name

    def test_a_bad_token_is_refused_even_where_none_is_needed(self, client):
        answer = client.post("/v1/users", json=ADA, headers={"Authorization": "Bearer dues_nonsense"})
        assert answer.status_code == 401

    def test_with_an_idempotency_key_once(self, client, make: Factory):
        headers = {"Idempotency-Key": "a"}
        first = client.post("/v1/users", json=ADA, headers=headers)
        again = client.post("/v1/users", json=ADA, headers=headers)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.data == first.data
        assert again.headers["Location"] == first.headers["Location"]
        assert again.headers["Idempotency-Replayed"] == "true"
        assert "Idempotency-Replayed" not in first.headers
        kept = make.rows("select * from idempotency_keys")
        assert ADA["password"] not in str(kept)


class TestMe:
    def test_only_with_a_token(self, client):
        answer = client.get("/v1/me")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")

    def test_only_with_the_scope(self, client, make: Factory):
        user = make.user()
        assert client.get("/v1/me", headers=make.auth(user, "catalog:read")).status_code == 403
        assert client.patch("/v1/me", json={}, headers=make.auth(user, "account:read")).status_code == 403

    def test_is_read_with_one_statement_whatever_is_included(self, client, make: Factory, queries: QueryRecorder):
        user, store = make.user(), make.store()
        newest = [make.payment(store, user, amount=amount).id for amount in range(1, 25)][:3:-1]
        make.payment(store)
        auth = make.auth(user)
        with queries() as seen:
            answer = client.get("/v1/me?include=subscriptions,payments", headers=auth)
        assert len(seen) == 2, seen  # the token's, and this one
        assert answer.json["email"] == user.email
        assert answer.json["subscriptions"] == []
        assert [payment["id"] for payment in answer.json["payments"]] == [str(id_) for id_ in newest]

    def test_shows_only_what_is_asked_for(self, client, make: Factory):
        user = make.user()
        make.payment(make.store(), user)
        answer = client.get("/v1/me?fields=name,payments.amount&include=payments", headers=make.auth(user))
        assert answer.json == {"name": user.name, "payments": [{"amount": 1500}]}

    def test_an_include_needs_the_scope_that_reads_it(self, client, make: Factory):
        user = make.user()
        auth = make.auth(user, "account:read", "payments:read")
        assert client.get("/v1/me?include=payments", headers=auth).status_code == 200
        answer = client.get("/v1/me?include=subscriptions", headers=auth)
        assert (answer.status_code, answer.json["code"]) == (403, "insufficient_scope")

    def test_a_token_bound_to_a_store_sees_no_other_stores_payments(self, client, make: Factory):
        user, mine, other = make.user(), make.store(), make.store()
        payment = make.payment(mine, user)
        make.payment(other, user)
        answer = client.get("/v1/me?include=payments", headers=make.auth(user, store=mine))
        assert [payment["id"] for payment in answer.json["payments"]] == [str(payment.id)]

    def test_name_and_e_mail_can_be_changed(self, client, make: Factory):
        user = make.user()
        auth = make.auth(user)
        body = {"name": "New", "email": "new@example.com", "current_password": PASSWORD}
        answer = client.patch("/v1/me", json=body, headers=auth)
        assert answer.status_code == 200
        assert (answer.json["name"], answer.json["email"], answer.json["version"]) == ("New", "new@example.com", 2)
        assert client.get("/v1/me", headers=auth).json == answer.json
        assert client.get("/v1/me", headers=auth).headers["ETag"] == answer.headers["ETag"]

    def test_the_own_e_mail_may_change_its_case_but_not_to_anothers(self, client, make: Factory):
        user, other = make.user(email="ada@example.com"), make.user()
        auth = make.auth(user)

        def change(email: str):
            return client.patch("/v1/me", json={"email": email, "current_password": PASSWORD}, headers=auth)

        assert change("Ada@example.com").status_code == 200
        answer = change(other.email.upper())
        assert (answer.status_code, answer.json["code"]) == (409, "email_taken")
        me = client.get("/v1/me", headers=auth).json
        assert (me["email"], me["email_verified"]) == ("Ada@example.com", True)

    def test_a_new_e_mail_needs_the_password_and_is_not_verified(self, client, make: Factory):
        auth = make.auth(make.user())
        answer = client.patch("/v1/me", json={"email": "new@example.com"}, headers=auth)
        assert pointers(answer) == {"#/current_password": "required"}
        # To send the present one again changes nothing.
        assert client.patch("/v1/me", json={"email": "user1@example.com"}, headers=auth).status_code == 200
        body = {"email": "new@example.com", "current_password": PASSWORD}
        assert client.patch("/v1/me", json=body, headers=auth).json["email_verified"] is False

    def test_of_two_who_take_the_same_e_mail_at_once_one_gets_it(self, client, make: Factory, contention: Contention):
        def take(name: str):
            body = {"email": "ada@example.com", "current_password": PASSWORD}
            return client.application.test_client().patch("/v1/me", json=body, headers=auths[name])

        auths = {name: make.auth(make.user()) for name in ("first", "second")}
        key = lock_key("users.email_normal", "ada@example.com")
        with contention.held("select pg_advisory_xact_lock(%(key)s)", key=key):
            answers = contention.start(lambda: take("first"), lambda: take("second"))
        assert sorted(answer.result().status_code for answer in answers) == [200, 409]

    def test_a_change_is_validated(self, client, make: Factory):
        auth = make.auth(make.user())
        wrong: tuple[object, ...] = ({"name": None}, {"version": 7}, {"id": "x"}, {"email": 5}, [], "x")
        for body in wrong:
            assert client.patch("/v1/me", json=body, headers=auth).status_code == 422, body

    def test_nothing_changed_is_no_new_version(self, client, make: Factory):
        user = make.user()
        assert client.patch("/v1/me", json={"name": user.name}, headers=make.auth(user)).json["version"] == 1

    def test_if_match_names_the_version(self, client, make: Factory):
        auth = make.auth(make.user())
        etag = client.get("/v1/me?fields=name", headers=auth).headers["ETag"]
        first = client.patch("/v1/me", json={"name": "One"}, headers={**auth, "If-Match": etag})
        assert first.status_code == 200
        stale = client.patch("/v1/me", json={"name": "Two"}, headers={**auth, "If-Match": etag})
        assert (stale.status_code, stale.json["version"]) == (412, 2)
        assert client.get("/v1/me", headers=auth).json["name"] == "One"


class TestPassword:
    def change(self, client, auth: dict[str, str], **body: str):
        return client.patch("/v1/me", json={"password": "another password", **body}, headers=auth)

    def test_a_new_one_needs_the_present_one(self, client, make: Factory):
        auth = make.auth(make.user())
        assert pointers(self.change(client, auth)) == {"#/current_password": "required"}
        assert pointers(self.change(client, auth, current_password="guess")) == {"#/current_password": "wrong"}
        assert client.get("/v1/me", headers=auth).json["version"] == 1

    def test_a_new_one_logs_in_and_the_old_one_no_longer(self, client, make: Factory):
        user = make.user()
        assert self.change(client, make.auth(user), current_password=PASSWORD).status_code == 200
        log_ins = [
            client.post("/v1/tokens", json={"email": user.email, "password": password}).status_code
            for password in ("another password", PASSWORD)
        ]
        assert log_ins == [201, 401]

    def test_a_new_one_revokes_every_other_token(self, client, make: Factory):
        user = make.user()
        used, other, bystander = make.auth(user), make.auth(user), make.auth(make.user())
        self.change(client, used, current_password=PASSWORD)
        statuses = [client.get("/v1/me", headers=auth).status_code for auth in (used, other, bystander)]
        assert statuses == [200, 401, 200]


class TestProfile:
    def test_is_public_and_holds_no_e_mail(self, client, make: Factory):
        user = make.user()
        make.store(user)
        make.store(user)
        make.store()
        answer = client.get(f"/v1/users/{user.id}")
        assert answer.status_code == 200
        assert answer.json == {
            "id": str(user.id),
            "name": user.name,
            "stores_count": 2,
            "posts_count": 0,
            "followers_count": 0,
            "following_count": 0,
            "followed_by_me": None,
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {"self": f"/v1/users/{user.id}"},
        }
        assert answer.headers["Cache-Control"] == "public, no-cache"

    def test_of_nobody_is_not_found(self, client):
        for user_id in ("019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "7", "me", "%00", "%C3%A9"):
            answer = client.get(f"/v1/users/{user_id}?nonsense=1")
            assert (answer.status_code, answer.mimetype) == (404, "application/problem+json"), user_id

    def test_of_who_has_left_is_not_found_and_his_token_opens_nothing(self, client, make: Factory):
        user = make.user(deleted_at="2026-01-01")
        assert client.get(f"/v1/users/{user.id}").status_code == 404
        assert client.get("/v1/me", headers=make.auth(user)).status_code == 401

    def test_an_unknown_parameter_is_refused_by_name(self, client, make: Factory):
        answer = client.get(f"/v1/users/{make.user().id}?nonsense=1&fields=email")
        assert answer.status_code == 400
        assert {fault["parameter"] for fault in answer.json["errors"]} == {"nonsense", "fields"}
