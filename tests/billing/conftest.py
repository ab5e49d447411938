"""A club: a test store whose clock a test moves, with its members. After each test its books are clean."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dues.billing.renewals import offer
from dues.ids import new_id
from tests.factory import Factory
from tests.payments.conftest import Work, told_if_looked_at, untold, work
from tests.rows.tables import earlier

__all__ = ["told_if_looked_at", "untold", "work"]

Document = dict[str, Any]


def at(text: str) -> datetime:
    """`2024-01-31` is midnight; times are UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def shown(text: str | None) -> str | None:
    """As an answer shows a time."""
    return None if text is None else at(text).isoformat(timespec="microseconds")


_AGING = {
    "subscriptions": "anchor_at current_period_start current_period_end access_until next_action_at next_charge_at",
    "subscription_periods": "starts_at ends_at",
}


def age(make: Factory, store: Row, days: int) -> None:
    """All that was subscribed to in a store was so some days earlier."""
    for table, columns in _AGING.items():
        make.rows(f"update {table} set {earlier(columns, days)} where store_id = %(id)s", {"id": store.id})


class Member:
    """Somebody with a card, at the club."""

    def __init__(self, club: "Club", card: str | None = "sandbox_ok", **columns: Any) -> None:
        self.club, self.user = club, club.make.user(**columns)
        self.auth = club.make.auth(self.user)
        if card:
            self.card(card)

    def card(self, token: str, *, is_default: bool = True) -> str:
        """A new card. Returns: its id."""
        answer = self.post("/v1/me/payment-methods", {"token": token, "is_default": is_default})
        assert answer.status_code == 201, answer.text
        return str((answer.json or {})["id"])

    def post(self, path: str, body: Document) -> TestResponse:
        headers = {**self.auth, "Idempotency-Key": new_id().hex}
        return self.club.client.post(path, json=body, headers=headers)

    def ask(self, package: Row, **body: Any) -> TestResponse:
        return self.post(f"{self.club.path}/subscriptions", {"package_id": str(package.id), **body})

    def subscribe(self, package: Row, **body: Any) -> str:
        """Returns: the path of the subscription, once its first charge has come to an end."""
        answer = self.ask(package, **body)
        assert answer.status_code in (201, 202), answer.text
        self.club.work.drain()
        return str((answer.json or {})["links"]["self"])

    def get(self, path: str) -> Document:
        answer = self.club.client.get(path, headers=self.auth)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def try_to(self, path: str, **body: Any) -> TestResponse:
        """Ask for a change of a subscription."""
        return self.club.client.patch(path, json=body, headers=self.auth)

    def change(self, path: str, **body: Any) -> Document:
        answer = self.try_to(path, **body)
        assert answer.status_code == 200, answer.text
        self.club.work.drain()
        return self.get(path)

    def preview(self, path: str, **body: Any) -> Document:
        answer = self.club.client.patch(f"{path}?preview=true", json=body, headers=self.auth)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def end(self, path: str, **body: Any) -> TestResponse:
        answer = self.club.client.delete(path, headers=self.auth, **({"json": body} if body else {}))
        self.club.work.drain()
        return answer

    @property
    def charged(self) -> list[int]:
        """What the gateway has charged the member for subscriptions, one amount after the other."""
        rows = self.club.make.rows(
            "select o.amount from sandbox_gateway.operations o join payments p on p.id::text = o.key"
            " where p.user_id = %(user)s and p.subscription_id is not null"
            " and o.kind = 'charge' and o.outcome = 'succeeded' order by p.id",
            {"user": self.user.id},
        )
        return [row.amount for row in rows]

    @property
    def balance(self) -> int:
        return int(
            self.club.make.value(
                "select coalesce(sum(amount), 0) from credits where user_id = %(user)s", {"user": self.user.id}
            )
        )

    def payments(self) -> list[Row]:
        return self.club.make.rows(
            "select * from payments where user_id = %(user)s order by id", {"user": self.user.id}
        )

    def invoices(self) -> list[Document]:
        data: list[Document] = self.get(f"{self.club.path}/invoices?sort=created_at&per_page=100")["data"]
        return data

    def given(self, amount: int) -> None:
        """Have the member's balance grow: what they paid for something else is credited to it."""
        club, body = self.club, {"amount": amount, "currency": self.club.store.currency}
        answer = self.post(f"{club.path}/payments", {**body, "payment_method": "sandbox_ok"})
        assert answer.status_code == 202, answer.text
        club.work.drain()
        headers = {**club.owner_auth, "Idempotency-Key": new_id().hex}
        answer = club.client.post(self.invoices()[-1]["links"]["credit_notes"], json={"to": "balance"}, headers=headers)
        assert answer.status_code == 201, answer.text

    def log(self, path: str) -> list[str]:
        """The kinds of the changes of a subscription, the oldest first."""
        rows = self.club.make.rows(
            "select kind from subscription_changes where subscription_id = %(id)s order by id",
            {"id": path.rpartition("/")[2]},
        )
        return [row.kind for row in rows]


class Club:
    """With `now` a test store whose clock shows that; else a store in real time."""

    def __init__(
        self, app: Flask, client: FlaskClient, make: Factory, work: Work, now: str | None, **columns: Any
    ) -> None:
        self.app, self.client, self.make, self.work = app, client, make, work
        self.owner = make.user(name="Olga Owner")
        self.store = make.store(self.owner, name="Club", test=now is not None, **columns)
        self.owner_auth = make.auth(self.owner)
        if now:
            self.set(now)

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.store.id}"

    def set(self, now: str) -> None:
        """The clock shows a time, and nothing was due on the way."""
        self.make.rows(
            "update store_clocks set moment = %(now)s where store_id = %(id)s",
            {"now": at(now), "id": self.store.id},
        )

    def advance(self, to: str) -> None:
        """Move the clock, and have all done that is due on the way."""
        answer = self.client.put(f"{self.path}/clock", json={"now": at(to).isoformat()}, headers=self.owner_auth)
        assert answer.status_code == 202, answer.text
        self.work.drain()
        clock = self.client.get(f"{self.path}/clock", headers=self.owner_auth).json or {}
        assert (clock["now"], clock["advancing_to"]) == (shown(to), None)

    def age(self, days: int) -> None:
        """In real time: all that was subscribed to was so some days earlier."""
        age(self.make, self.store, days)

    def renew(self) -> None:
        """In real time: do what is due."""
        with self.app.app_context():
            offer()
        self.work.drain()

    def package(self, amount: int = 5000, interval: str = "month", **columns: Any) -> Row:
        return self.make.package(self.store, amount=amount, interval=interval, **columns)

    def member(self, card: str | None = "sandbox_ok", **columns: Any) -> Member:
        return Member(self, card, **columns)

    def get(self, path: str) -> Document:
        answer = self.client.get(path, headers=self.owner_auth)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def events(self) -> list[str]:
        rows = self.make.rows("select type from events where store_id = %(id)s order by seq", {"id": self.store.id})
        return [row.type for row in rows]

    def row(self, path: str) -> Row:
        """A subscription as it is stored."""
        found: UUID | str = path.rpartition("/")[2]
        return self.make.rows("select * from subscriptions where id = %(id)s", {"id": found})[0]


@pytest.fixture
def make_club(
    app: Flask, client: FlaskClient, make: Factory, work: Work, clean_books: Callable[[Flask], None]
) -> Iterator[Any]:
    def made(now: str | None = "2024-01-31", **columns: Any) -> Club:
        return Club(app, client, make, work, now, **columns)

    yield made
    clean_books(app)


@pytest.fixture
def club(make_club: Any) -> Club:
    """One whose clock shows 2024-01-31."""
    found: Club = make_club()
    return found


def refusal(make: Factory, statement: str) -> str:
    """What PostgreSQL says to a statement that changes what is written for good; nothing where it does it."""
    try:
        make.rows(statement)
    except psycopg2.errors.RestrictViolation as error:
        return str(error)
    return ""


def subscribed(club: Club, amount: int, interval: str = "month", card: str = "sandbox_ok") -> tuple[Member, str]:
    """A new member and the path of their subscription to a package of this price."""
    member = club.member(card)
    return member, member.subscribe(club.package(amount, interval, name="Silver"))
