"""Reports for those who keep a store's accounts: subscribers, invoices with credit notes, the ledger."""

import csv
import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row

import pytest

from tests.factory import Factory
from tests.reports.conftest import Reports

JANUARY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
MIDDLE = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)


def rows_of(reports: Reports, store: Row, kind: str) -> list[dict[str, str]]:
    content = reports.built(store, kind, "csv", JANUARY)
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_subscribers_are_those_who_had_a_subscription_in_the_range(make: Factory, reports: Reports) -> None:
    store = make.store()
    package = make.package(store, name="Gold", amount=5000)
    ended = {"status": "canceled", "has_access": False, "next_action_at": None}
    for email, created, over in (
        ("stays@example.com", MIDDLE - timedelta(days=90), None),
        ("gone@example.com", MIDDLE - timedelta(days=90), MIDDLE - timedelta(days=60)),
        ("leaves@example.com", MIDDLE - timedelta(days=80), MIDDLE),
        ("later@example.com", MIDDLE + timedelta(days=60), None),
    ):
        columns = {"created_at": created, **({**ended, "ended_at": over} if over else {})}
        make.subscription(store, make.user(email=email), package=package, **columns)
    found = rows_of(reports, store, "subscribers")
    assert [row["user_email"] for row in found] == ["stays@example.com", "leaves@example.com"]
    first = found[0]
    assert (first["package_name"], first["amount"], first["amount_decimal"]) == ("Gold", "5000", "50.00")
    assert (first["interval"], first["cancel_at_period_end"]) == ("month", "no")


def test_credit_notes_take_away_from_invoices(make: Factory, reports: Reports) -> None:
    store, user = make.store(), make.user(name="Ada")
    invoice = make.invoice(store, user, status="paid", issued_at=MIDDLE)
    make.invoice(store, user)
    note = make.credit_note(invoice, issued_at=MIDDLE + timedelta(days=1))
    make.rows("update invoices set number = 'INV-000001', sequence = 1 where id = %(id)s", {"id": invoice.id})
    make.rows("update credit_notes set number = 'CN-000001', sequence = 1 where id = %(id)s", {"id": note.id})
    found = rows_of(reports, store, "invoices")
    assert [(row["type"], row["number"], row["for_invoice"], row["total"]) for row in found] == [
        ("invoice", "INV-000001", "", "1500"),
        ("credit_note", "CN-000001", "INV-000001", "-100"),
    ]
    assert {row["buyer_name"] for row in found} == {"Ada"}
    assert sum(int(row["amount_due"]) + int(row["from_balance"]) for row in found) == 1400


def test_the_ledger_adds_up(make: Factory, reports: Reports) -> None:
    store = make.store()
    make.rows(
        "with t as (insert into ledger_transactions(store_id, id, kind, source, created_at)"
        " values (%(id)s, gen_random_uuid(), 'invoice', 'invoice:1', %(at)s) returning *)"
        " insert into ledger_entries select store_id, id, n, a, m, 'EUR' from t,"
        " (values (1, 'gateway:sandbox', 1500), (2, 'revenue', -1500)) e(n, a, m)",
        {"id": store.id, "at": MIDDLE},
    )
    found = rows_of(reports, store, "ledger")
    assert [(row["account"], row["amount_decimal"]) for row in found] == [
        ("gateway:sandbox", "15.00"),
        ("revenue", "-15.00"),
    ]
    assert {row["source"] for row in found} == {"invoice:1"}


@pytest.mark.parametrize("kind", ["subscribers", "invoices", "ledger"])
@pytest.mark.parametrize("form", ["json", "xlsx"])
def test_they_come_in_other_formats_too(make: Factory, reports: Reports, kind: str, form: str) -> None:
    assert reports.built(make.store(), kind, form, JANUARY)
