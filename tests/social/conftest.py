"""People who ask and answer over HTTP, each with a token of their own."""

from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.factory import Factory
from tests.payments.conftest import work

__all__ = ["work"]


class Person:
    """Somebody with a token, or with none; `id` and `name` are the user's."""

    def __init__(self, client: FlaskClient, auth: dict[str, str], user: Row | None = None) -> None:
        self._client, self._auth = client, auth
        self.user = user or Row(id=None, name=None)
        self.id = self.user.id

    def send(
        self, method: str, path: str, body: Any = None, query: dict[str, str] | None = None, **headers: str
    ) -> TestResponse:
        return self._client.open(path, method=method, json=body, query_string=query, headers=self._auth | headers)

    def get(self, path: str) -> dict[str, Any]:
        """The document; fails for anything but a 200."""
        answer = self.send("GET", path)
        assert answer.status_code == 200, f"GET {path}: {answer.text}"
        return answer.json or {}

    def status(self, method: str, path: str, body: Any = None) -> int:
        return self.send(method, path, body).status_code

    def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What a write that succeeds answers."""
        answer = self.send(method, path, body)
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"
        return answer.json or {}

    def ids(self, path: str) -> list[str]:
        """The ids in a list, which has one page."""
        return [item["id"] for item in self.get(path)["data"]]

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str, list[str]]:
        """The status, the code, and where the faults are."""
        answer = self.send(method, path, body)
        document = answer.json or {}
        faults = document.get("errors", [])
        return answer.status_code, document.get("code", ""), [f.get("pointer") or f.get("parameter") for f in faults]

    def post(self, **fields: Any) -> dict[str, Any]:
        """A post, public unless said otherwise."""
        return self.done("POST", "/v1/posts", {"body": "Something new", "privacy": "public"} | fields)


class People:
    """`people()` is somebody new; `people.nobody` has no token."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self._client, self.make = client, make
        self.nobody = Person(client, {})

    def __call__(self, user: Row | None = None, **token: Any) -> Person:
        user = user or self.make.user()
        return Person(self._client, self.make.auth(user, **token), user)


@pytest.fixture
def people(client: FlaskClient, make: Factory) -> People:
    return People(client, make)
