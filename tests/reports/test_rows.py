"""What is in a report: every payment of the range once, in order, as the database has it."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from dues.money import format_money
from dues.reports.rows import PAYMENTS
from tests.factory import Factory
from tests.reports.conftest import Reports
from tests.test_money import DIGITS

JANUARY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
MIDDLE = datetime(2026, 1, 15, 12, 30, 0, 123456, tzinfo=UTC)


def parse(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def test_a_payment_and_its_refund_with_all_that_belongs_to_them(make: Factory, reports: Reports):
    store = make.store()
    user = make.user(name='Zoë "Z" O\'Neil, 李', email="zoe@example.com")
    package = make.package(store, name="Gold\nand silver")
    subscription = make.user().id
    payment = make.payment(
        store,
        user,
        package=package,
        amount=123456,
        refunded_amount=500,
        status="partially_refunded",
        subscription_id=subscription,
        description="Line one\nline two",
        gateway_ref="ref-1",
        created_at=MIDDLE,
        paid_at=MIDDLE + timedelta(seconds=1),
        updated_at=MIDDLE + timedelta(seconds=2),
    )
    refund = make.refund(
        payment,
        amount=500,
        reason="Closed",
        gateway_ref="ref-2",
        created_at=MIDDLE + timedelta(seconds=2),
        settled_at=MIDDLE + timedelta(seconds=3),
        updated_at=MIDDLE + timedelta(seconds=4),
    )
    both = {
        "payment_id": str(payment.id),
        "currency": "EUR",
        "user_id": str(user.id),
        "user_name": 'Zoë "Z" O\'Neil, 李',
        "user_email": "zoe@example.com",
        "package_id": str(package.id),
        "package_name": "Gold\nand silver",
        "subscription_id": str(subscription),
        "failure_code": "",
        "gateway": "sandbox",
    }
    paid = both | {
        "type": "payment",
        "id": str(payment.id),
        "booked_at_utc": "2026-01-15T12:30:01.123456+00:00",
        "created_at_utc": "2026-01-15T12:30:00.123456+00:00",
        "paid_at_utc": "2026-01-15T12:30:01.123456+00:00",
        "settled_at_utc": "",
        "status": "partially_refunded",
        "amount": "123456",
        "amount_decimal": "1234.56",
        "net": "123456",
        "net_decimal": "1234.56",
        "description": "Line one\nline two",
        "gateway_ref": "ref-1",
        "updated_at_utc": "2026-01-15T12:30:02.123456+00:00",
    }
    given_back = both | {
        "type": "refund",
        "id": str(refund.id),
        "booked_at_utc": "2026-01-15T12:30:03.123456+00:00",
        "created_at_utc": "2026-01-15T12:30:02.123456+00:00",
        "paid_at_utc": "",
        "settled_at_utc": "2026-01-15T12:30:03.123456+00:00",
        "status": "succeeded",
        "amount": "500",
        "amount_decimal": "5.00",
        "net": "-500",
        "net_decimal": "-5.00",
        "description": "Closed",
        "gateway_ref": "ref-2",
        "updated_at_utc": "2026-01-15T12:30:04.123456+00:00",
    }
    assert parse(reports.built(store)) == [paid, given_back]
    document = json.loads(reports.built(store, form="json"))
    numbers = ("amount", "net")
    in_json = [
        {name.removesuffix("_utc"): int(text) if name in numbers else text or None for name, text in row.items()}
        for row in (paid, given_back)
    ]
    assert document["data"] == in_json


def test_what_is_not_paid_stands_where_it_was_asked_for_and_counts_as_nothing(make: Factory, reports: Reports):
    store = make.store()
    for status in ("pending", "processing", "failed", "requires_action", "unknown"):
        make.payment(store, status=status, created_at=MIDDLE)
    payment = make.payment(store, created_at=JANUARY[0] - timedelta(days=9), paid_at=JANUARY[0])
    for status in ("pending", "failed"):
        make.refund(payment, amount=100, status=status, created_at=MIDDLE)
    rows = parse(reports.built(store, covers=JANUARY))
    assert [(row["type"], row["status"], row["net"]) for row in rows] == [
        ("payment", "succeeded", "1500"),
        ("payment", "pending", "0"),
        ("payment", "processing", "0"),
        ("payment", "failed", "0"),
        ("payment", "requires_action", "0"),
        ("payment", "unknown", "0"),
        ("refund", "failed", "0"),
    ]
    (month,) = parse(reports.built(store, "revenue", covers=JANUARY))
    assert (month["gross"], month["refunds"], month["net"]) == ("1500", "0", "1500")


def test_from_is_inclusive_and_to_exclusive(make: Factory, reports: Reports):
    store = make.store()
    step = timedelta(microseconds=1)
    moments = [JANUARY[0] - step, JANUARY[0], JANUARY[1] - step, JANUARY[1]]
    inside = [str(make.payment(store, created_at=moment).id) for moment in moments][1:3]
    assert [row["id"] for row in parse(reports.built(store, covers=JANUARY))] == inside
    first, last = (moment.astimezone(timezone(timedelta(hours=2))) for moment in JANUARY)
    assert [row["id"] for row in parse(reports.built(store, covers=(first, last)))] == inside


def test_only_the_stores_own_payments_ordered_by_time_and_id(make: Factory, reports: Reports):
    store, other = make.store(), make.store()
    make.payment(other, created_at=MIDDLE)
    user = make.user()
    late = make.payment(store, user, created_at=MIDDLE + timedelta(days=1))
    twins = sorted(str(make.payment(store, user, created_at=MIDDLE).id) for _ in range(20))
    early = make.payment(store, user, created_at=MIDDLE - timedelta(days=1))
    ids = [row["id"] for row in parse(reports.built(store))]
    assert ids == [str(early.id), *twins, str(late.id)]


@pytest.mark.parametrize(
    ("currency", "amount", "text"),
    [("EUR", 5, "0.05"), ("EUR", 1200, "12.00"), ("JPY", 1234, "1234"), ("KWD", 1234, "1.234"), ("BHD", 5, "0.005")],
)
def test_amounts_have_the_digits_of_their_currency(make: Factory, reports: Reports, currency, amount, text):
    store = make.store()
    make.payment(store, amount=amount, currency=currency, created_at=MIDDLE)
    (row,) = parse(reports.built(store))
    assert (row["amount"], row["amount_decimal"]) == (str(amount), text)
    (month,) = parse(reports.built(store, "revenue"))
    assert (month["gross"], month["gross_decimal"], month["net_decimal"]) == (str(amount), text, text)


def test_no_payments_make_a_heading_alone(make: Factory, reports: Reports):
    store = make.store()
    for form in ("csv", "json", "xlsx"):
        report = reports.build(reports.ask(store, form=form))
        assert (report.status, report.rows) == ("succeeded", 0), form
    assert parse(reports.built(store)) == []
    assert json.loads(reports.built(store, form="json"))["data"] == []


def test_text_of_every_kind_comes_through_json_as_it_is(make: Factory, reports: Reports):
    store = make.store()
    texts = [
        '"',
        "\\",
        "\\.",
        "\\n",
        "\x01\x02\x1f\x7f",
        "a\tb\nc\r\n",
        "😀\u2028\ufffe",
        '{"a":[1,2]}',
        "%s %(x)s {0}",
    ]
    for i, text in enumerate(texts):
        make.payment(store, description=text, created_at=MIDDLE + timedelta(seconds=i))
    document = json.loads(reports.built(store, form="json"))
    assert [row["description"] for row in document["data"]] == texts
    assert [row["description"] for row in parse(reports.built(store))] == texts


def test_json_says_what_it_is_about(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, created_at=MIDDLE)
    report = reports.build(reports.ask(store, form="json", covers=JANUARY))
    about = json.loads(reports.content(report))["report"]
    created_at = datetime.fromisoformat(about.pop("created_at"))
    assert report.created_at <= created_at <= datetime.now(UTC)
    assert about == {
        "id": str(report.id),
        "store_id": str(store.id),
        "kind": "payments",
        "from": "2026-01-01T00:00:00.000000+00:00",
        "to": "2026-02-01T00:00:00.000000+00:00",
        "timezone": "UTC",
        "rows": 1,
    }


def test_revenue_by_month_package_and_currency(make: Factory, reports: Reports):
    store = make.store()
    gold, silver = make.package(store, name="Gold"), make.package(store, name="Silver")
    february = JANUARY[1]

    def pay(at: datetime, amount: int, **columns: Any) -> Any:
        return make.payment(store, amount=amount, created_at=at - timedelta(days=40), paid_at=at, **columns)

    pay(JANUARY[0], 1000, package=gold)
    last = pay(february - timedelta(microseconds=1), 500, package=gold, status="partially_refunded")
    make.refund(last, amount=200, settled_at=february)
    pay(MIDDLE, 300, package=gold, currency="USD")
    given_back = pay(MIDDLE, 700, package=silver, status="refunded")
    make.refund(given_back, amount=300, settled_at=MIDDLE)
    make.refund(given_back, amount=400, settled_at=MIDDLE)
    pay(MIDDLE, 50)
    pay(february, 2000, package=gold)
    pay(datetime(2026, 3, 1, tzinfo=UTC), 1, package=gold)
    before = pay(datetime(2025, 12, 31, tzinfo=UTC), 900, package=silver, status="refunded")
    make.refund(before, amount=900, settled_at=february)
    for status in ("pending", "processing", "failed", "requires_action", "unknown"):
        make.payment(store, amount=99999, package=gold, status=status, created_at=MIDDLE)
    rows = parse(reports.built(store, "revenue", covers=(JANUARY[0], datetime(2026, 3, 1, tzinfo=UTC))))
    names = ("month", "package_name", "currency", "payments", "gross", "refunds", "refunded", "net", "net_decimal")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("2026-01", "Gold", "EUR", "2", "1500", "0", "0", "1500", "15.00"),
        ("2026-01", "Gold", "USD", "1", "300", "0", "0", "300", "3.00"),
        ("2026-01", "Silver", "EUR", "1", "700", "2", "700", "0", "0.00"),
        ("2026-01", "", "EUR", "1", "50", "0", "0", "50", "0.50"),
        ("2026-02", "Gold", "EUR", "1", "2000", "1", "200", "1800", "18.00"),
        ("2026-02", "Silver", "EUR", "0", "0", "1", "900", "-900", "-9.00"),
    ]
    assert {row["package_id"] for row in rows} == {str(gold.id), str(silver.id), ""}
    assert {row["timezone"] for row in rows} == {"UTC"}
    document = json.loads(reports.built(store, "revenue", "json", JANUARY))
    assert {"month": "2026-01", "gross": 1500, "gross_decimal": "15.00"}.items() <= document["data"][0].items()


def test_sums_may_be_larger_than_any_payment(make: Factory, reports: Reports):
    store = make.store()
    for _ in range(20):
        make.payment(store, amount=999_999_999_999, created_at=MIDDLE)
    (row,) = parse(reports.built(store, "revenue"))
    assert row["gross"] == str(20 * 999_999_999_999)
    assert Decimal(row["gross_decimal"]) * 100 == 20 * 999_999_999_999


@pytest.mark.one_server("the plan is of one server")
def test_rows_come_in_the_order_of_indexes(make: Factory):
    """So that the first comes at once, and nothing is sorted on disk."""
    store = make.store()
    make.payments(store, 5000, users=[make.user()], packages=[make.package(store)], noted=False)
    values = {"store_id": store.id, "timezone": "UTC", "range_from": JANUARY[0], "range_to": datetime(2100, 1, 1)}
    make.rows("set enable_sort = off")
    plan = make.rows(f"explain {PAYMENTS.select({})}", values)
    make.rows("reset enable_sort")
    steps = [line for row in plan for line in vars(row).values()]
    assert any("Merge Append" in step for step in steps)
    assert not any(re.match(r"(->|\s)*Sort +\(", step) for step in steps), "\n".join(steps)


def test_reports_have_the_digits_of_every_currency(make: Factory, reports: Reports) -> None:
    store = make.store()
    for currency in [*DIGITS, "ZZZ"]:
        make.payment(store, amount=1234567, currency=currency)
    rows = json.loads(reports.built(store, form="json"))["data"]
    printed = {row["currency"]: f"{row['amount_decimal']} {row['currency']}" for row in rows}
    assert printed == {code: format_money(1234567, code).replace(",", "") for code in [*DIGITS, "ZZZ"]}
