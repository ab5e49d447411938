"""Batches that are sent to a store."""

from collections.abc import Callable
from types import SimpleNamespace as Made
from typing import Any

import pytest
import ujson
from flask.testing import FlaskClient

from tests.factory import Factory

Post = Callable[..., Any]
Operation = dict[str, Any]

PACKAGE = {"name": "Gold", "amount": 1500, "currency": "EUR", "interval": "month"}


@pytest.fixture
def store(make: Factory) -> Made:
    return make.store(make.user(), currency="EUR")


@pytest.fixture
def post(client: FlaskClient, make: Factory, store: Made) -> Post:
    """Sends operations as the store's owner. Returns: the answer's status and its results by their ids, or its
    problem."""
    auth = make.auth(owner_of(make, store))

    def post(*operations: Operation, key: str = "", **members: Any) -> tuple[int, dict[str, Any]]:
        headers = auth | ({"Idempotency-Key": key} if key else {})
        answer = client.post("/v1/batch", json={"operations": operations, **members}, headers=headers)
        document = ujson.loads(answer.data)
        if answer.status_code >= 400:
            return answer.status_code, document
        assert [result["id"] for result in document["results"]] == [operation["id"] for operation in operations]
        return answer.status_code, {result["id"]: result for result in document["results"]}

    return post


def owner_of(make: Factory, store: Made) -> Made:
    (staff,) = make.rows("select user_id as id from store_staff where store_id = %(id)s", {"id": store.id})
    return staff


@pytest.fixture
def packages(store: Made) -> Callable[..., Operation]:
    def create(id_: str, **body: Any) -> Operation:
        return {"id": id_, "method": "POST", "path": f"/v1/stores/{store.id}/packages", "body": PACKAGE | body}

    return create
