"""Metrics of a store: the cases M of the design, what moves them, and that one statement reads them."""

from typing import Any

import pytest

from tests.billing.conftest import Club, shown
from tests.servers import Mailbox

YEAR = "from=2024-01-01T00:00:00Z&to=2025-01-01T00:00:00Z"


def figures(club: Club, query: str = YEAR) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = club.get(f"{club.path}/metrics?{query}")["data"]
    return data


def month(club: Club, number: int, query: str = YEAR) -> dict[str, Any]:
    """Those of one month of the year, from 1, that are not 0."""
    row = figures(club, query)[number - 1]
    return {name: value for name, value in row.items() if value and name not in ("start", "currency")}


def test_M1_a_membership_comes_and_goes(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(500))
    new = {"mrr": 500, "committed_mrr": 500, "active": 1, "new": 1, "new_mrr": 500, "gross": 500, "net": 500}
    assert month(club, 1) == new
    club.set("2024-02-10")
    member.end(path)
    assert month(club, 2) == {"churned": 1, "churned_mrr": -500}
    assert [row["mrr"] for row in figures(club)] == [500] + [0] * 11


@pytest.mark.parametrize(
    ("amount", "interval", "count", "mrr"),
    [
        (12000, "year", 1, 1000),
        (10000, "year", 1, 833),
        (3000, "month", 3, 1000),
        (1200, "week", 1, 5200),
        (0, "month", 1, 0),
    ],
    ids=["M2 120 a year", "M2 100 a year", "a quarter", "a week", "free"],
)
def test_M2_what_it_brings_in_a_month(club: Club, amount: int, interval: str, count: int, mrr: int) -> None:
    club.member().subscribe(club.package(amount, interval, interval_count=count))
    assert month(club, 1).get("mrr", 0) == mrr
    assert month(club, 1)["active"] == 1


def test_M2_nothing_is_counted_before_it_is_charged_nor_while_it_is_paused(club: Club) -> None:
    club.member().subscribe(club.package(5000, trial_days=60))
    club.member("sandbox_declined").subscribe(club.package(5000))
    assert month(club, 1) == {"trialing": 1, "failed_payments": 1}
    member = club.member()
    path = member.subscribe(club.package(700))
    member.change(path, paused=True)
    club.advance("2024-03-05")
    assert month(club, 2)["churned_mrr"] == -700
    member.change(path, paused=False)
    assert {name: month(club, 3)[name] for name in ("mrr", "reactivated", "reactivated_mrr")} == {
        "mrr": 700,
        "reactivated": 1,
        "reactivated_mrr": 700,
    }


def test_M3_what_is_set_to_end_is_not_committed(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(1000))
    member.change(path, cancel_at_period_end=True)
    row = month(club, 1)
    assert (row["mrr"], row.get("committed_mrr", 0)) == (1000, 0)
    member.change(path, cancel_at_period_end=False)
    assert month(club, 1)["committed_mrr"] == 1000


def test_changes_of_package_move_the_mrr_up_and_down(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(1000))
    member.change(path, package_id=str(club.package(3000).id), when="now")
    member.change(path, package_id=str(club.package(2000).id), when="now")
    row = month(club, 1)
    moved = {name: row[name] for name in ("upgraded", "upgraded_mrr", "downgraded", "downgraded_mrr", "mrr")}
    assert moved == {"upgraded": 1, "upgraded_mrr": 2000, "downgraded": 1, "downgraded_mrr": -1000, "mrr": 2000}


def test_failed_payments_and_what_was_recovered(club: Club, mailbox: Mailbox) -> None:
    member = club.member("sandbox_fail_after:1")
    member.subscribe(club.package(5000))
    club.advance("2024-03-02")
    member.card("sandbox_ok")
    club.work.drain()
    assert (month(club, 2)["past_due"], month(club, 2)["failed_payments"]) == (1, 1)
    assert (month(club, 3)["recovered"], month(club, 3)["mrr"]) == (1, 5000)


def test_money_is_counted_where_it_moved_and_in_its_currency(make_club: Any) -> None:
    club: Club = make_club("2024-01-31", currencies=["USD"])
    member, other = club.member(), club.member()
    member.subscribe(club.package(5000))
    other.subscribe(club.package(700, currency="USD"))
    club.set("2024-02-03")
    (payment,) = member.payments()
    headers = {**club.owner_auth, "Idempotency-Key": "r1"}
    club.client.post(f"{club.path}/payments/{payment.id}/refunds", json={"amount": 2000}, headers=headers)
    club.work.drain()
    rows = {(row["start"], row["currency"]): row for row in figures(club)}
    january, february = shown("2024-01-01"), shown("2024-02-01")
    assert rows[january, "EUR"]["gross"] == 5000
    assert (rows[february, "EUR"]["refunds"], rows[february, "EUR"]["net"]) == (2000, -2000)
    assert (rows[january, "USD"]["mrr"], rows[february, "USD"]["gross"]) == (700, 0)


def test_periods_are_those_of_the_stores_zone(make_club: Any) -> None:
    club: Club = make_club("2024-02-01T03:00", timezone="America/New_York")
    club.member().subscribe(club.package(500))
    rows = figures(club, "from=2024-01-31T12:00:00Z&to=2024-02-03T05:00:00Z&interval=day")
    assert [(row["start"], row["new"], row["mrr"]) for row in rows] == [
        (shown("2024-01-31T05:00"), 1, 500),
        (shown("2024-02-01T05:00"), 0, 500),
        (shown("2024-02-02T05:00"), 0, 500),
    ]


def test_of_those_who_began_in_a_month_so_many_stay(club: Club) -> None:
    package = club.package(1000)
    stays, leaves = club.member(), club.member()
    stays.subscribe(package)
    path = leaves.subscribe(package)
    club.set("2024-02-10")
    club.member().subscribe(package)
    leaves.end(path)
    rows = figures(club, "from=2024-01-01T00:00:00Z&to=2024-04-01T00:00:00Z&view=cohorts")
    assert [(row["start"], row["members"], row["mrr"]) for row in rows] == [
        (shown("2024-01-01"), [2, 1, 1], [2000, 1000, 1000]),
        (shown("2024-02-01"), [1, 1], [1000, 1000]),
    ]


def test_one_statement_reads_them(club: Club, queries: Any) -> None:
    club.member().subscribe(club.package())
    club.get(f"{club.path}/metrics?{YEAR}")
    with queries() as seen:
        club.get(f"{club.path}/metrics?{YEAR}&interval=week")
    # The other, if there is one, asks what the caller may do.
    assert len([statement for statement in seen if "token_hash" not in statement]) == 1, seen


def test_without_a_range_it_is_the_year_until_now(club: Club) -> None:
    club.member().subscribe(club.package(500))
    rows = figures(club, "")
    assert (rows[0]["start"], rows[-1]["start"], rows[-1]["mrr"]) == (shown("2023-02-01"), shown("2024-01-01"), 500)


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("from=2025-01-01T00:00:00Z&to=2025-01-01T00:00:00Z", "to"),
        ("from=2000-01-01T00:00:00Z&to=2025-01-01T00:00:00Z&interval=day", "to"),
        (f"{YEAR}&interval=year", "interval"),
        (f"{YEAR}&view=x", "view"),
        (f"{YEAR}&{YEAR}", "from"),
        ("from=soon&to=2025-01-01T00:00:00Z", "from"),
        (f"{YEAR}&fields=mrr", "fields"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(club: Club, query: str, parameter: str) -> None:
    answer = club.client.get(f"{club.path}/metrics?{query}", headers=club.owner_auth)
    assert answer.status_code == 400, answer.text
    assert parameter in [fault["parameter"] for fault in (answer.json or {})["errors"]]
