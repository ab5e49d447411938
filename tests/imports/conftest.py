"""A club that brings its members along."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace as Row
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.billing.conftest import Club, club, make_club, work

__all__ = ["club", "make_club", "work"]

Rows = Sequence[Mapping[str, Any]]


def as_csv(rows: Rows) -> bytes:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({**row} for row in rows)
    return text.getvalue().encode()


def as_ndjson(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class Importer:
    """What a club's owner sends to be imported."""

    def __init__(self, club: Club) -> None:
        self.club = club
        self.path = f"{club.path}/imports"

    def send(self, kind: str, content: bytes | str, media_type: str = "text/csv", **headers: str) -> TestResponse:
        return self.club.client.post(
            f"{self.path}?kind={kind}",
            data=content,
            content_type=media_type,
            headers={**self.club.owner_auth, **{name.replace("_", "-"): value for name, value in headers.items()}},
        )

    def run(self, kind: str, rows: Rows | bytes, media_type: str = "text/csv") -> dict[str, Any]:
        """An import that has come to its end."""
        if not isinstance(rows, bytes):
            rows = as_csv(rows) if media_type == "text/csv" else as_ndjson(rows)
        answer = self.send(kind, rows, media_type)
        assert answer.status_code == 202, answer.text
        self.club.work.drain()
        return self.club.get((answer.json or {})["links"]["self"])

    def counts(self, kind: str, rows: Rows | bytes, media_type: str = "text/csv") -> tuple[int, int, int, int]:
        """How many were created, updated, unchanged and refused by an import that has succeeded."""
        one = self.run(kind, rows, media_type)
        assert one["status"] == "succeeded", one
        counts = one["created"], one["updated"], one["unchanged"], one["refused"]
        assert one["rows"] == sum(counts)
        return counts

    def refused(self, one: Mapping[str, Any]) -> list[dict[str, str]]:
        """What an import's file says."""
        answer = self.club.client.get(one["links"]["file"], headers=self.club.owner_auth)
        assert (answer.status_code, answer.mimetype) == (200, "text/csv")
        return list(csv.DictReader(io.StringIO(answer.get_data(as_text=True), newline="")))

    def subscriptions(self) -> list[Row]:
        return self.club.make.rows(
            "select s.*, u.email from subscriptions s join users u on u.id = s.user_id where s.store_id = %(id)s"
            " order by u.email",
            {"id": self.club.store.id},
        )


@pytest.fixture
def importer(club: Club) -> Importer:
    """Of a club whose clock shows 2024-01-31."""
    return Importer(club)
