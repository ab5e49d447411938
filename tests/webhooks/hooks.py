"""A store with a manager, a receiver, and workers that run when a test says so."""

from datetime import datetime
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

from flask import Flask
from werkzeug.test import TestResponse

from tests.factory import Factory
from tests.payments.conftest import Work
from tests.webhooks.receiver import Receiver


class Hooks:
    """What a store's manager does about webhooks, and what becomes of it."""

    def __init__(
        self, app: Flask, receiver: Receiver, make: Factory, work: Work, email: str = "olga@example.com"
    ) -> None:
        self.app, self.receiver, self.make, self.work = app, receiver, make, work
        self.client = app.test_client()
        self.owner = make.user(name="Olga Owner", email=email)
        self.store = make.store(self.owner, name="Climbing Hall")
        manager = make.user()
        make.staff(self.store, manager, role="manager")
        self.auth = make.auth(manager)
        self.path = f"/v1/stores/{self.store.id}"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.open(f"{self.path}{path}", method=method, json=body, headers={**self.auth, **named})

    def get(self, path: str) -> Any:
        answer = self.send("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json

    def register(self, **body: Any) -> dict[str, Any]:
        """An endpoint at the receiver, told of all events. Returns: it, with its secret."""
        answer = self.send("POST", "/webhook-endpoints", {"url": self.receiver.url, "events": ["*"], **body})
        assert answer.status_code == 201, answer.text
        return answer.json or {}

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        endpoint: dict[str, Any] = self.get(f"/webhook-endpoints/{endpoint_id}")
        return endpoint

    def happen(self, times: int = 1) -> None:
        """A package is posted: `package.created`."""
        for _ in range(times):
            answer = self.send("POST", "/packages", {"name": "Gold", "amount": 1500, "interval": "month"})
            assert answer.status_code == 201, answer.text

    def deliveries(self) -> list[dict[str, Any]]:
        """The oldest first."""
        found: list[dict[str, Any]] = self.get("/webhook-deliveries?sort=created_at&per_page=100")["data"]
        return found

    def delivery(self) -> dict[str, Any]:
        """The only one."""
        [found] = self.deliveries()
        return found

    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/events?per_page=100")["data"]
        return found

    def job_of(self, delivery: dict[str, Any]) -> Row:
        return self.make.rows(
            "select * from jobs where id = %(id)s", {"id": UUID(delivery["links"]["job"].rpartition("/")[2])}
        )[0]


def waited(delivery: dict[str, Any]) -> float:
    """How long a delivery will have waited for its next attempt, seconds."""
    next_at = datetime.fromisoformat(delivery["next_attempt_at"])
    return round((next_at - datetime.fromisoformat(delivery["updated_at"])).total_seconds(), 3)
