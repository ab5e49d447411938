"""What cannot be seen from outside: two requests with one Idempotency-Key that pass each other."""

import threading
import time

import pytest
from flask import Flask

from api import idempotency
from api.http import Reply
from api.idempotency import once
from api.request import Request
from dues.errors import ValidationFailed
from dues.postgres import transaction
from tests.factory import Factory

PATH = "/v1/stores"
SENT = Request("POST", PATH, "", lambda _: None, bytes)


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
