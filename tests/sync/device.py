"""A client that works offline, as docs/programs.md describes one: it keeps rows, sends what was done, and applies what
it is told."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import ujson
from flask.testing import FlaskClient

from dues.ids import new_id

Answer = dict[str, Any]
# Sends a body to POST /v1/sync. Returns: the status and the document.
Send = Callable[[dict[str, Any]], tuple[int, Answer]]


def sender(client: FlaskClient, auth: dict[str, str]) -> Send:
    def send(body: dict[str, Any]) -> tuple[int, Answer]:
        answer = client.post("/v1/sync", json=body, headers=auth)
        return answer.status_code, ujson.loads(answer.data)

    return send


def op(method: str, path: str, body: Any = None, **members: Any) -> dict[str, Any]:
    """An operation of now, with an id of its own."""
    made = {"id": str(new_id()), "at": datetime.now(UTC).isoformat(), "method": method, "path": path}
    return made | ({"body": body} if body is not None else {}) | members


class Device:
    """`rows`: by type and id, what the client shows. `limit`: how many changes it takes at once."""

    def __init__(self, send: Send, *, limit: int = 500, **members: Any) -> None:
        self._send, self._limit, self._members = send, limit, members
        self.cursor: str | None = None
        self.rows: dict[tuple[str, str], Any] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self.applied = 0

    def sync(self, *ops: dict[str, Any]) -> list[Answer]:
        """Send operations, and take all that has changed. Returns: the results."""
        answer = self.ask(*ops)
        self.apply(answer)
        while answer["has_more"]:
            answer = {**self.ask(), "results": answer["results"]}
            self.apply(answer)
        results: list[Answer] = answer["results"]
        return results

    def ask(self, *ops: dict[str, Any]) -> Answer:
        body = {"cursor": self.cursor, "ops": list(ops), "limit": self._limit, **self._members}
        status, answer = self._send(body)
        assert status == 200, answer
        return answer

    def apply(self, answer: Answer) -> None:
        for key in list(self._versions):
            if key[0] in answer["reset"]:
                del self._versions[key]
                self.rows.pop(key, None)
        for change in answer["changes"]:
            key = change["type"], change["id"]
            if change["version"] <= self._versions.get(key, 0):
                continue
            self.applied += 1
            self._versions[key] = change["version"]
            if change["op"] == "put":
                self.rows[key] = change["data"]
            else:
                self.rows.pop(key, None)
        self.cursor = answer["cursor"]

    def of(self, kind: str) -> dict[str, Any]:
        """The rows of one type by their ids."""
        return {id_: row for (name, id_), row in self.rows.items() if name == kind}


def numbered(texts: str) -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"{texts} {next(numbers)}"
