"""A store whose payments are listed page by page."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient

from dues.ids import new_id
from tests.factory import Factory

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Shop:
    """A store of a test's own, read by its owner."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self._client, self._make = client, make
        self.owner = make.user()
        self.headers = make.auth(self.owner)
        self.store = make.store(self.owner)
        self.path = f"/v1/stores/{self.store.id}/payments"

    def new_store(self) -> None:
        self.store = self._make.store(self.owner)
        self.path = f"/v1/stores/{self.store.id}/payments"

    def add(self, rows: list[tuple[int, int, str]]) -> list[Row]:
        """Payments with these amounts, seconds and statuses."""
        made = [
            Row(
                id=str(new_id()),
                amount=amount,
                created_at=EPOCH + timedelta(seconds=second),
                status=status,
                paid_at=None if status == "failed" else EPOCH + timedelta(seconds=4 - second),
            )
            for amount, second, status in rows
        ]
        if made:
            self._insert(made)
        return made

    def _insert(self, made: list[Row]) -> None:
        self._make.rows(
            "insert into payments(store_id, id, user_id, amount, currency, status, payment_method, gateway,"
            " created_at, paid_at) select %(store)s, id::uuid, %(user)s, amount, 'EUR', status, 'sandbox_ok',"
            " 'sandbox', created_at, paid_at"
            " from unnest(%(ids)s, %(amounts)s, %(statuses)s, %(times)s, %(paid)s::timestamptz[])"
            " as t(id, amount, status, created_at, paid_at)",
            {
                "store": self.store.id,
                "user": self.owner.id,
                "ids": [row.id for row in made],
                "amounts": [row.amount for row in made],
                "statuses": [row.status for row in made],
                "times": [row.created_at for row in made],
                "paid": [row.paid_at for row in made],
            },
        )

    def remove(self, payment_id: str) -> None:
        self._make.rows("delete from payments where id = %(id)s", {"id": payment_id})

    def get(self, path: str = "", **parameters: Any) -> dict[str, Any]:
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = self._client.get((path or self.path) + query, headers=self.headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.get_json()
        return document

    def refused(self, **parameters: Any) -> dict[str, Any]:
        answer = self._client.get(f"{self.path}?{urlencode(parameters)}", headers=self.headers)
        assert answer.status_code == 400, answer.text
        document: dict[str, Any] = answer.get_json()
        return document


@pytest.fixture
def shop(client: FlaskClient, make: Factory) -> Shop:
    return Shop(client, make)


def ids(document: dict[str, Any]) -> list[str]:
    return [item["id"] for item in document["data"]]
