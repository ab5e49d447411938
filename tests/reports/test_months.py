"""A month's revenue, recounted from nothing but what happened and when: payments confirmed days after they were asked
for, refunds months later, in the months of a store's own time zone."""

import csv
import io
import json
import random
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest
from flask import Flask

from dues.ids import new_id
from dues.postgres import is_spread
from dues.reports.snapshot import is_settled
from tests.factory import Factory
from tests.payments.conftest import Shop, Work, shop, work
from tests.reports.conftest import Reports
from tests.servers import Servers

__all__ = ["shop", "work"]

ZONES = ["Asia/Tokyo", "America/Los_Angeles", "Australia/Lord_Howe", "UTC"]
FIRST, LAST = datetime(2026, 2, 27, tzinfo=UTC), datetime(2026, 12, 3, tzinfo=UTC)
Sums = dict[tuple[str, str, str], list[int]]


@dataclass(frozen=True)
class Move:
    """Money that moved: a payment, or a refund; below zero is one that came back."""

    at: datetime
    package: str
    currency: str
    amount: int
    is_refund: bool = False


def edges(zone: ZoneInfo) -> list[datetime]:
    """The first moment of each month there, and those just before, just after and an hour around it."""
    starts = [datetime(2026, month, 1, tzinfo=zone).astimezone(UTC) for month in range(3, 13)]
    steps = [timedelta(0), timedelta(microseconds=-1), timedelta(hours=1), timedelta(hours=-1), timedelta(minutes=-30)]
    return [start + step for start in starts for step in steps]


def history(make: Factory, store: Row, zone: ZoneInfo) -> list[Move]:
    """Payments and refunds of most of a year, many at the edges of its months, as rows and as moves."""
    dice = random.Random(f"months of {zone.key}")
    packages = [make.package(store, name=name) for name in ("Gold", "Silver")] + [None]
    user, moves, payments, refunds = make.user(), [], [], []
    for paid_at in edges(zone) + [FIRST + dice.random() * (LAST - FIRST) for _ in range(60)]:
        package, currency = dice.choice(packages), dice.choice(["EUR", "EUR", "JPY"])
        amount, asked_before = dice.randrange(1, 100_000), timedelta(days=dice.choice([0, 1, 3, 40]))
        status = dice.choice(["succeeded", "partially_refunded", "refunded", "failed", "requires_action", "unknown"])
        is_paid = status in ("succeeded", "partially_refunded", "refunded")
        payments.append(
            {
                "store_id": store.id,
                "id": new_id(),
                "user_id": user.id,
                "package_id": package and package.id,
                "amount": amount,
                "currency": currency,
                "status": status,
                "created_at": paid_at - asked_before,
                "paid_at": paid_at if is_paid else None,
                "description": "",
                "payment_method": "sandbox_ok",
                "gateway": "sandbox",
                "refunded_amount": 0,
                "version": 1,
                "updated_at": paid_at,
                "off_session": False,
            }
        )
        name = package.name if package else ""
        if is_paid:
            moves.append(Move(paid_at, name, currency, amount))
        left = {"refunded": amount, "partially_refunded": amount // 2}.get(status, 0)
        while left:
            given = dice.randrange(1, left + 1)
            left -= given
            settled_at = dice.choice([*edges(zone), paid_at + dice.random() * timedelta(days=90)])
            outcome = dice.choice(["succeeded", "succeeded", "failed", "returned"])
            returned_at = settled_at + dice.random() * timedelta(days=60) if outcome == "returned" else None
            refunds.append(
                {
                    "store_id": store.id,
                    "id": new_id(),
                    "payment_id": payments[-1]["id"],
                    "amount": given,
                    "currency": currency,
                    "status": "succeeded" if outcome == "succeeded" else "failed",
                    "settled_at": settled_at,
                    "returned_at": returned_at,
                    "reason": "",
                    "version": 1,
                    "created_at": paid_at,
                    "updated_at": settled_at,
                }
            )
            if outcome != "failed":
                moves.append(Move(settled_at, name, currency, given, is_refund=True))
            if returned_at:
                moves.append(Move(returned_at, name, currency, -given, is_refund=True))
    make.insert_many("payments", payments)
    make.insert_many("refunds", refunds)
    return moves


def recount(moves: list[Move], zone: ZoneInfo, covers: tuple[datetime, datetime]) -> Sums:
    """By month, package and currency: payments, gross, refunds, refunded."""
    sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
    for move in moves:
        if covers[0] <= move.at < covers[1]:
            month = move.at.astimezone(zone).strftime("%Y-%m")
            at = 2 if move.is_refund else 0
            sums[month, move.package, move.currency][at] += 1 if move.amount > 0 else -1
            sums[month, move.package, move.currency][at + 1] += move.amount
    return dict(sums)


def reported(rows: list[dict[str, Any]], zone: str) -> Sums:
    assert {row["timezone"] for row in rows} <= {zone}
    found: Sums = {}
    for row in rows:
        figures = [int(row[name]) for name in ("payments", "gross", "refunds", "refunded")]
        assert int(row["net"]) == figures[1] - figures[3]
        found[row["month"], row["package_name"] or "", row["currency"]] = figures
    return found


@pytest.mark.parametrize("name", ZONES)
def test_each_month_is_what_a_plain_recount_gives(make: Factory, reports: Reports, name: str):
    zone = ZoneInfo(name)
    store = make.store(timezone=name)
    moves = history(make, store, zone)
    march = datetime(2026, 3, 1, tzinfo=zone), datetime(2026, 4, 1, tzinfo=zone)
    for covers in (march, (FIRST, LAST), (march[0], datetime(2026, 10, 4, 2, tzinfo=zone))):
        expected = recount(moves, zone, covers)
        in_csv = list(csv.DictReader(io.StringIO(reports.built(store, "revenue", "csv", covers).decode(), newline="")))
        assert reported(in_csv, name) == expected
        document = json.loads(reports.built(store, "revenue", "json", covers))
        assert reported(document["data"], name) == expected
        assert document["report"]["timezone"] == name
        # The single payments and refunds come to the same.
        listed = csv.DictReader(io.StringIO(reports.built(store, "payments", "csv", covers).decode(), newline=""))
        net = sum(int(row["net"]) for row in listed if row["currency"] == "EUR")
        assert net == sum(f[1] - f[3] for (_, _, currency), f in expected.items() if currency == "EUR")
    assert {month for month, _, _ in recount(moves, zone, march)} == {"2026-03"}


def test_a_month_that_is_over_never_changes(shop: Shop, work: Work, make: Factory, reports: Reports):
    """Asked for in January, confirmed in February, refunded in March: each report shows what was so in its month."""
    january, february, march, april = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4))
    store = shop.store
    asked = shop.post(shop.path, {"payment_method": "sandbox_action", "amount": 9900, "currency": "EUR"})
    assert asked.json
    url = f"{shop.path}/{asked.json['id']}"
    work.drain()

    def happened(at: datetime) -> None:
        """What was just written with the present time was written then."""
        for table, column in (("payments", "created_at"), ("payments", "paid_at"), ("refunds", "settled_at")):
            make.rows(f"update {table} set {column} = %(at)s where {column} > '2026-05-01'", {"at": at})

    def net(covers: tuple[datetime, datetime]) -> int:
        return sum(row["net"] for row in json.loads(reports.built(store, "revenue", "json", covers))["data"])

    happened(january + timedelta(days=14))
    assert net((january, february)) == 0
    shop.post(f"{url}/confirmations", {"outcome": "succeed"})
    work.drain()
    happened(february + timedelta(days=1))
    assert [net((january, february)), net((february, march))] == [0, 9900]
    shop.client.post(f"{url}/refunds", json={"amount": 5000}, headers=shop.owner_auth | {"Idempotency-Key": "r"})
    work.drain()
    happened(march + timedelta(days=1))
    months = (january, february), (february, march), (march, april)
    assert [net(month) for month in months] == [0, 9900, -5000]
    before = [reports.built(store, "revenue", "csv", month) for month in months]
    shop.client.patch(f"/v1/stores/{store.id}", json={"name": "New name"}, headers=shop.owner_auth)
    assert [reports.built(store, "revenue", "csv", month) for month in months] == before


def test_a_report_keeps_the_zone_that_the_store_had_when_it_was_asked_for(shop: Shop, make: Factory, reports: Reports):
    make.payment(shop.store, amount=700, created_at=datetime(2026, 2, 28, 20, tzinfo=UTC))
    shop.client.patch(f"/v1/stores/{shop.store.id}", json={"timezone": "Asia/Tokyo"}, headers=shop.owner_auth)
    body = {"kind": "revenue", "format": "json", "from": "2026-03-01T00:00:00+09:00", "to": "2026-04-01T00:00:00+09:00"}
    reports_url = f"/v1/stores/{shop.store.id}/reports"
    asked = shop.client.post(reports_url, json=body, headers=shop.owner_auth).json
    assert asked
    shop.client.patch(f"/v1/stores/{shop.store.id}", json={"timezone": "UTC"}, headers=shop.owner_auth)
    document = json.loads(reports.content(reports.build(reports.row(asked["id"]))))
    months = [(row["month"], row["timezone"], row["gross"]) for row in document["data"]]
    assert months == [("2026-03", "Asia/Tokyo", 700)]
    with shop.client.get(f"{reports_url}/{asked['id']}/file", headers=shop.owner_auth) as file:
        assert "revenue-2026-03.json" in file.headers["Content-Disposition"]


def test_a_range_that_has_just_ended_waits_for_those_who_still_write_in_it(
    make: Factory, reports: Reports, servers: Servers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dues.reports.snapshot._GRACE", timedelta(0))
    store = make.store()
    payment = make.payment(store, status="processing")
    with closing(psycopg2.connect(servers.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "update payments set status = 'succeeded', paid_at = now() where id = %s returning paid_at",
            (str(payment.id),),
        )
        paid_at: datetime = (cursor.fetchone() or ())[0]
        ended = make.value("select clock_timestamp()")
        report = reports.ask(store, "revenue", "json", (paid_at - timedelta(hours=1), ended))
        assert reports.build(report).status == "running"
        job = reports.job(report)
        assert (job.status, job.attempt) == ("queued", 0)
        connection.commit()
    make.rows("update jobs set run_at = now()")
    assert [row["gross"] for row in json.loads(reports.content(reports.build(report)))["data"]] == [1500]


@pytest.mark.usefixtures("spread")
def test_who_has_written_to_another_server_alone_is_waited_for_too(
    app: Flask, servers: Servers, make: Factory, monkeypatch: pytest.MonkeyPatch
):
    """They have no transaction id here, like those who only read, and who are not waited for on one server."""
    monkeypatch.setattr("dues.reports.snapshot._GRACE", timedelta(0))
    with app.app_context(), closing(psycopg2.connect(servers.database_url)) as connection:
        connection.cursor().execute("select from users")
        ended = make.value("select clock_timestamp()")
        assert is_settled(ended) is not is_spread()
        connection.commit()
        assert is_settled(ended)


def test_a_range_that_ends_this_moment_is_left_to_settle(make: Factory, reports: Reports):
    store = make.store()
    report = reports.ask(store, covers=(FIRST, datetime.now(UTC) - timedelta(seconds=1)))
    assert (reports.build(report).status, reports.job(report).attempt) == ("running", 0)
    until_now = reports.ask(store, covers=(FIRST, datetime.now(UTC) + timedelta(days=1)))
    assert reports.build(until_now).status == "succeeded"
