"""Which requests with one Idempotency-Key are one request, and two of them that pass each other."""

import json
import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import idempotency
from api.idempotency import once
from api.reply import Reply
from api.request import make_request
from dues.errors import ValidationFailed
from dues.postgres import transaction
from tests.factory import Factory
from tests.payments.conftest import Shop, shop
from tests.rows.people import PASSWORD

__all__ = ["shop"]

PATH = "/v1/stores"
SENT = make_request("POST", PATH, {}, "127.0.0.1")


def test_an_answer_that_was_kept_while_the_lock_was_taken_is_found(
    app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "_LOCK", idempotency._LOCK.replace("select ", "select pg_sleep(1), ", 1))

    def write() -> Reply:
        raise AssertionError("there is an answer")

    def keep() -> None:
        time.sleep(0.3)
        make.rows(
            "insert into idempotency_keys(scope, key, request_hash, status, headers, body)"
            " values (%(scope)s, 'k', '', 201, '{}', 'first')",
            {"scope": f"anonymous POST {PATH}"},
        )

    first = threading.Thread(target=keep)
    first.start()
    # It was another body's.
    with app.app_context(), pytest.raises(ValidationFailed), transaction():
        once(SENT, None, "k", b"", write)
    first.join()

    assert make.value("select body from idempotency_keys") == "first"


def test_an_answer_of_yesterday_is_replaced(app: Flask, make: Factory) -> None:
    make.rows(
        "insert into idempotency_keys(scope, key, request_hash, status, headers, body, created_at)"
        " values (%(scope)s, 'k', '', 201, '{}', 'old', now() - interval '25 hours')",
        {"scope": f"anonymous POST {PATH}"},
    )
    with app.app_context(), transaction():
        assert once(SENT, None, "k", b"", lambda: Reply(b"new", 201)).body == b"new"

    assert make.value("select body from idempotency_keys") == "new"


def charge(shop: Shop, key: str, body: bytes, path: str = "") -> Any:
    headers = shop.auth | {"Idempotency-Key": key, "Content-Type": "application/json"}
    return shop.client.post(path or shop.path, data=body, headers=headers)


FIRST = b'{"payment_method": "sandbox_ok", "amount": 1500, "currency": "EUR", "description": "Tea"}'


@pytest.mark.parametrize(
    "again",
    [
        b'{"payment_method":"sandbox_ok","amount":1500,"currency":"EUR","description":"Tea"}',
        b'\n{"currency": "EUR", "amount": 1500,\t"description": "Tea", "payment_method": "sandbox_ok"}\r\n',
        rb'{"payment_method": "sandbox_ok", "amount": 1500, "currency": "\u0045UR", "\u0064escription": "\u0054ea"}',
    ],
)
def test_the_same_request_is_the_same_however_it_is_written(shop: Shop, make: Factory, again: bytes) -> None:
    first = charge(shop, "k", FIRST)
    assert first.status_code == 202
    replayed = charge(shop, "k", again)
    assert (replayed.status_code, replayed.data) == (202, first.data)
    assert replayed.headers["Idempotency-Replayed"] == "true"
    other = charge(shop, "k", again.replace(b"1500", b"1501"))
    assert (other.status_code, other.json["code"]) == (422, "idempotency_key_reused")
    assert make.value("select count(*) from payments") == 1


def test_an_id_in_capitals_is_the_same_id(shop: Shop, make: Factory) -> None:
    first = charge(shop, "k", FIRST)
    capitals = shop.path.replace(str(shop.store.id), str(shop.store.id).upper())
    again = charge(shop, "k", FIRST, capitals)
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert make.value("select count(*) from payments") == 1


def test_a_secret_is_given_again_however_the_request_is_written(client: FlaskClient, make: Factory) -> None:
    user = make.user()
    first, again = (
        client.post("/v1/tokens", data=body, headers={"Idempotency-Key": "k", "Content-Type": "application/json"}).json
        for body in (
            json.dumps({"email": user.email, "password": PASSWORD}),
            json.dumps({"password": PASSWORD, "email": user.email}, indent=2),
        )
    )
    assert first
    assert first == again
    assert client.get("/v1/me", headers={"Authorization": f"Bearer {first['token']}"}).status_code == 200


@pytest.mark.parametrize("key", ["\tk  ", " k", "k \t "])
def test_blanks_around_a_key_are_not_part_of_it(shop: Shop, make: Factory, key: str) -> None:
    assert charge(shop, "k", FIRST).status_code == 202
    environ = {"HTTP_IDEMPOTENCY_KEY": key, "HTTP_AUTHORIZATION": shop.auth["Authorization"]}
    again = shop.client.post(shop.path, data=FIRST, content_type="application/json", environ_overrides=environ)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (202, "true")


@pytest.mark.parametrize("keys", [("a", "b"), ("a", "a"), ("", "a")])
def test_two_keys_are_refused(shop: Shop, make: Factory, keys: tuple[str, str]) -> None:
    # As servers join two headers of one name.
    answer = charge(shop, ",".join(keys), FIRST)
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_idempotency_key")
    assert make.value("select count(*) from payments") == 0
