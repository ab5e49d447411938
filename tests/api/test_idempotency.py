"""What cannot be seen from outside: two requests with one Idempotency-Key that pass each other."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from api.http import Reply
from api.idempotency import once
from dues.db import transaction
from dues.errors import Conflict
from tests.factory import Factory

PATH = "/v1/stores"


@contextmanager
def request(app: Flask) -> Iterator[None]:
    with app.test_request_context(PATH, method="POST"):
        app.preprocess_request()
        yield


def test_an_answer_kept_since_it_was_looked_for_undoes_this_request(app: Flask, make: Factory) -> None:
    def write() -> Reply:
        # The first request's answer, which was committed between this one's look and its lock.
        make.rows(
            "insert into idempotency_keys(scope, key, request_hash, status, headers, body)"
            " values (%(scope)s, 'k', '', 201, '{}', 'first')",
            {"scope": f"anonymous POST {PATH}"},
        )
        return Reply(b"second", 201)

    with request(app), pytest.raises(Conflict), transaction():
        once(None, "k", b"", write)

    assert make.value("select body from idempotency_keys") == "first"


def test_an_answer_of_yesterday_is_replaced(app: Flask, make: Factory) -> None:
    make.rows(
        "insert into idempotency_keys(scope, key, request_hash, status, headers, body, created_at)"
        " values (%(scope)s, 'k', '', 201, '{}', 'old', now() - interval '25 hours')",
        {"scope": f"anonymous POST {PATH}"},
    )
    with request(app), transaction():
        assert once(None, "k", b"", lambda: Reply(b"new", 201)).body == b"new"

    assert make.value("select body from idempotency_keys") == "new"
