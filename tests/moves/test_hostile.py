"""What an end of a move does that is not `flask stores` of a Dues, or one that means harm."""

import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

import pytest

from dues.accounts.passwords import NOBODY
from dues.ids import new_id
from dues.moves import rows
from dues.moves.arrival import receive
from dues.moves.tables import Table
from dues.moves.wire import Lost, Refused, Wire
from dues.reports.files import file_store
from tests.billing.conftest import Club
from tests.moves.conftest import End


def frame(kind: bytes, data: bytes) -> bytes:
    return struct.pack("!cI", kind, len(data)) + data


HELLO = {"word": "hello", "store_id": str(new_id()), "move_id": str(new_id()), "slug": "x", "revision": "1"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"Welcome to other.example\n",
        struct.pack("!cI", b"J", 2**32 - 1),
        frame(b"J", b"{"),
        frame(b"J", b"\xff"),
        frame(b"J", b"[" * 100_000),
        frame(b"J", b"[]"),
        frame(b"J", b'{"word": 1}'),
        frame(b"J", b'{"word": "ask", "store_id": "1", "move_id": null}'),
        frame(b"J", json.dumps(HELLO).encode()),
        frame(b"J", b'{"word": "commit"}'),
        frame(b"D", b"rows"),
    ],
)
def test_what_makes_no_sense_is_told_apart(elsewhere: End, sent: bytes) -> None:
    answers = io.BytesIO()
    with elsewhere.app.app_context(), pytest.raises(Lost):
        receive(Wire(io.BytesIO(sent), answers))
    assert answers.getvalue() == b""


def test_an_address_is_one_before_anything_is_done(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = (
        "https://x;}",
        "https://x/ y",
        "https://x\r\nSet-Cookie: a=b",
        "https://x\n",
        "javascript:alert(1)",
        "",
        1,
        None,
    )
    for address in wrong:
        with monkeypatch.context() as patch:
            patch.setattr("dues.moves.arrival.Wire.tell", _saying("welcome", address=address))
            why = here.refusal(shop.store, elsewhere)
        assert (address, "what came is no message" in why) == (address, True), why
        assert (address, here.is_untouched(shop.store)) == (address, True)


def _saying(word: str, **changed: Any) -> Callable[..., None]:
    tell = Wire.tell

    def changing(wire: Wire, said: str, **facts: Any) -> None:
        tell(wire, said, **(facts | changed if said == word else facts))

    return changing


def _sending(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    """The rows of a table, by another rule."""
    send = rows.send_rows

    def sending(cursor: Any, table: Table, store_id: UUID, wire: Wire) -> None:
        send(cursor, replace(table, **changes) if table.name == name else table, store_id, wire)

    monkeypatch.setattr("dues.moves.rows.send_rows", sending)


# Which rows of a table are sent, besides those of the store.
TOO_MANY = {
    "store_staff": "role = 'support'",
    "packages": "true",
    "posts": "true",
    "jobs": "true",
    "users": "true",
    "payment_methods": "store_id is null",
    "sandbox_gateway.methods": "true",
}


def test_nothing_arrives_that_is_not_the_store_s(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = here.make.user()
    other = here.make.store(victim)
    here.make.package(other)
    here.make.staff(other, shop.owner)
    here.make.rows(
        "insert into jobs(id, kind, queue, args, store_id, run_at, max_attempts, timeout_s) values"
        " (gen_random_uuid(), 'payment.charge', 'critical', '{}', %(id)s, now() + interval '1 day', 9, 60)",
        {"id": other.id},
    )
    here.make.post(victim, store=other)
    here.make.rows("insert into sandbox_gateway.methods(reference, keys) values ('pm_x', '{}')")
    here.make.payment_method(victim)
    for end in (here, elsewhere):
        if end is elsewhere:
            end.make.store(end.make.user(id=victim.id, email=victim.email), id=other.id, slug=other.slug)
    before = elsewhere.contents(other)
    for table, condition in TOO_MANY.items():
        with monkeypatch.context() as patch:
            _sending(patch, table, rows=condition)
            assert (table, bool(here.refusal(shop.store, elsewhere))) == (table, True)
        assert (table, here.is_untouched(shop.store)) == (table, True)
        assert (table, elsewhere.contents(other)) == (table, before)
        assert (table, elsewhere.make.value("select count(*) from users")) == (table, 1)


def test_a_password_that_was_sent_opens_nothing(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sending(monkeypatch, "users", computed={})
    here.move(shop.store, elsewhere)
    assert elsewhere.make.value("select array_agg(distinct password_hash) from users") == [NOBODY]


def add_report(end: End, store: Row, **columns: Any) -> Row:
    values = {"store_id": store.id, "id": new_id(), "requested_by": store.owner_id, "kind": "payments", "format": "csv"}
    times = {"range_from": "2025-01-01T00:00:00Z", "range_to": "2025-02-01T00:00:00Z"}
    return end.make.insert("reports", values | times | columns)


def test_no_file_of_another_store_is_written_over(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = add_report(elsewhere, elsewhere.make.store(elsewhere.make.user(), slug="another"))
    named = f"reports/{report.id}/secret.csv"
    with elsewhere.app.app_context(), file_store().create(named) as draft:
        draft.write(b"secret")
    for key in (named, f"imports/{report.id}/{report.id}/upload", "reports/../x", "reports", "/etc/x"):
        with monkeypatch.context() as patch:
            patch.setattr("dues.moves.departure.Wire.tell", _saying("files", keys=[key]))
            assert (key, bool(here.refusal(shop.store, elsewhere))) == (key, True)
        with elsewhere.app.app_context():
            assert (key, file_store().size(named)) == (key, len(b"secret"))


def test_no_report_shows_the_file_of_another_store(shop: Club, here: End, elsewhere: End) -> None:
    add_report(here, shop.store, status="succeeded", file_key=f"reports/{new_id()}/secret.csv")
    with pytest.raises(Refused, match="not of this store: files"):
        here.move(shop.store, elsewhere)
