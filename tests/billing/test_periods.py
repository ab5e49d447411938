"""Renewals over HTTP and the store's clock: the cases D and Z of the design that need one."""

import pytest

from tests.billing.conftest import Club, Member, shown


def paid(member: Member) -> int:
    return len(member.charged)


def test_D1_a_month_from_the_31st(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package())
    club.advance("2025-02-28")
    assert paid(member) == 14
    one = member.get(path)
    assert (one["anchor_at"], one["current_period_end"]) == (shown("2024-01-31"), shown("2025-03-31"))
    starts = [invoice["period"]["start"] for invoice in member.invoices()]
    assert starts[:5] == [shown(day) for day in ("2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31")]


@pytest.mark.parametrize(
    ("start", "days"),
    [
        pytest.param("2023-03-31", {"2023-04-29": 1, "2023-04-30": 2, "2023-05-01": 2}, id="D5"),
        pytest.param(
            "2011-01-31", {"2011-02-27": 1, "2011-02-28": 2, "2011-03-01": 2, "2011-03-31": 3, "2011-04-01": 3}, id="D9"
        ),
        pytest.param(
            "2024-01-31",
            {"2024-02-28T23:59:59": 1, "2024-02-29T00:00:00": 2, "2024-02-29T00:00:01": 2, "2024-02-29T12:00": 2},
            id="D10",
        ),
    ],
)
def test_how_many_were_charged_by_then(make_club, start: str, days: dict[str, int]) -> None:
    club = make_club(start)
    member = club.member()
    member.subscribe(club.package())
    for moment, count in days.items():
        club.advance(moment)
        assert paid(member) == count, moment


def test_D7_a_year_is_charged_once_a_year(club: Club) -> None:
    member = club.member()
    member.subscribe(club.package(50000, "year"))
    club.advance("2025-01-30")
    assert member.charged == [50000]
    club.advance("2025-01-31")
    assert member.charged == [50000] * 2


def test_D12_what_is_bought_once_is_charged_once_and_never_ends(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(9900, "once"))
    club.advance("2025-03-06")
    one = member.get(path)
    assert member.charged == [9900]
    assert (one["status"], one["current_period_end"], one["has_access"]) == ("active", None, True)
    assert (one["next_charge_at"], one["access_until"]) == (None, None)


@pytest.mark.parametrize(
    ("interval", "count", "ends"),
    [("week", 2, "2024-02-14"), ("month", 3, "2024-04-30"), ("year", 2, "2026-01-31")],
)
def test_several_intervals_are_one_period(club: Club, interval: str, count: int, ends: str) -> None:
    member = club.member()
    path = member.subscribe(club.package(3000, interval, interval_count=count))
    one = member.get(path)
    assert (one["interval"], one["interval_count"], one["current_period_end"]) == (interval, count, shown(ends))


@pytest.mark.parametrize(
    ("zone", "start", "moments"),
    [
        pytest.param("Asia/Kolkata", "2023-02-02T00:00", {"2023-03-01T18:00": 1, "2023-03-02T00:00": 2}, id="Z6"),
        pytest.param("America/Bogota", "2023-02-02T05:00", {"2023-03-02T04:00": 1, "2023-03-02T05:00": 2}, id="Z7"),
        pytest.param(
            "America/Juneau",
            "2015-09-01T08:01:01",
            {"2015-11-01T08:01:01": 3, "2015-12-01T08:01:01": 3, "2015-12-01T09:01:01": 4, "2017-03-01T09:01:01": 19},
            id="Z1",
        ),
    ],
)
def test_a_member_is_charged_at_one_hour_where_the_store_is(
    make_club, zone: str, start: str, moments: dict[str, int]
) -> None:
    club = make_club(start, timezone=zone)
    member = club.member()
    member.subscribe(club.package(24995))
    for moment, count in moments.items():
        club.advance(moment)
        assert member.charged == [24995] * count, moment


def test_Z2_a_canceled_one_ends_at_its_hour(make_club) -> None:
    club = make_club("2015-11-01T07:01:01", timezone="America/Los_Angeles")
    member = club.member()
    path = member.subscribe(club.package())
    member.change(path, cancel_at_period_end=True)
    club.advance("2015-12-01T07:01:02")
    assert member.get(path)["status"] == "active"
    club.advance("2015-12-01T08:01:01")
    one = member.get(path)
    assert (one["status"], one["ended_at"]) == ("canceled", shown("2015-12-01T08:01:01"))
    assert (len(member.invoices()), member.balance) == (1, 0)


def test_Z8_a_trial_into_summer_time(make_club) -> None:
    club = make_club("2017-03-02T07:30", timezone="America/Los_Angeles")
    member = club.member()
    path = member.subscribe(club.package(2995, trial_days=30))
    assert member.get(path)["trial_end"] == shown("2017-04-01T06:30")
    club.advance("2017-05-01T06:29")
    assert member.charged == [2995]
    assert member.get(path)["current_period_end"] == shown("2017-05-01T06:30")


def test_Z10_what_runs_keeps_its_zone(club: Club) -> None:
    first, second = club.member(), club.member()
    package = club.package()
    old = first.subscribe(package)
    answer = club.client.patch(club.path, json={"timezone": "Asia/Tokyo"}, headers=club.owner_auth)
    assert answer.status_code == 200
    new = second.subscribe(package)
    assert [m.get(path)["timezone"] for m, path in ((first, old), (second, new))] == ["UTC", "Asia/Tokyo"]


def test_N17_C14_a_package_that_costs_more_or_is_archived_is_renewed_at_the_old_price(club: Club) -> None:
    member, package = club.member(), club.package(5000)
    member.subscribe(package)
    url = f"{club.path}/packages/{package.id}"
    assert club.client.patch(url, json={"amount": 7000}, headers=club.owner_auth).status_code == 200
    club.advance("2024-02-29")
    assert club.client.delete(url, headers=club.owner_auth).status_code == 200
    club.advance("2024-03-31")
    assert member.charged == [5000] * 3
    answer = club.member().ask(package)
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "package_archived")
