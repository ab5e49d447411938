"""Trials: the cases T of the design."""

from typing import Any

import pytest

from tests.billing.conftest import Club, shown
from tests.servers import Mailbox


@pytest.mark.parametrize(
    ("start", "days", "end", "next_end"),
    [
        pytest.param("2024-03-05T12:12", 10, "2024-03-15T12:12", "2024-04-15T12:12", id="T1"),
        pytest.param("2024-04-28T12:00", 7, "2024-05-05T12:00", "2024-06-05T12:00", id="T2"),
        pytest.param("2024-03-05T12:12", 45, "2024-04-19T12:12", "2024-05-19T12:12", id="T9"),
        pytest.param("2024-01-31", 30, "2024-03-01", "2024-04-01", id="D14"),
    ],
)
def test_a_trial_costs_nothing_and_its_end_is_the_new_anchor(
    make_club, start: str, days: int, end: str, next_end: str
) -> None:
    club = make_club(start)
    member = club.member()
    answer = member.ask(club.package(5000, trial_days=days))
    assert answer.status_code == 201
    path = (answer.json or {})["links"]["self"]
    one = member.get(path)
    assert (one["status"], one["trial_end"], one["has_access"]) == ("trialing", shown(end), True)
    assert (one["next_charge_at"], one["next_charge_amount"]) == (shown(end), 5000)
    before = end.replace("T12:12", "T12:11:59").replace("T12:00", "T11:59")
    club.advance(before if "T" in before else "2024-02-29T23:59:59")
    assert (member.charged, member.get(path)["status"]) == ([], "trialing")
    club.advance(end)
    one = member.get(path)
    assert (member.charged, one["status"], one["anchor_at"]) == ([5000], "active", shown(end))
    assert (one["current_period_start"], one["current_period_end"]) == (shown(end), shown(next_end))


def test_T3_canceled_in_the_trial_it_ends_with_it_and_costs_nothing(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(trial_days=10))
    member.change(path, cancel_at_period_end=True)
    club.advance("2024-06-01")
    one = member.get(path)
    assert (one["status"], one["ended_at"], one["has_access"]) == ("canceled", shown("2024-02-10"), False)
    assert (member.charged, member.invoices()) == ([], [])


def test_T4_ended_in_the_trial_it_is_over_at_once(club: Club) -> None:
    member = club.member()
    path = member.subscribe(club.package(trial_days=10))
    assert member.end(path).status_code == 200
    one = member.get(path)
    assert (one["status"], one["has_access"], member.invoices()) == ("canceled", False, [])


@pytest.mark.parametrize(
    ("days", "new_days", "end", "charged"),
    [
        pytest.param(7, 14, "2024-02-14", [], id="T5"),
        pytest.param(30, 7, "2024-02-07", [], id="T6"),
        pytest.param(30, 1, None, [9000], id="T7"),
        pytest.param(30, 0, None, [9000], id="T8 none"),
        pytest.param(10, 10, "2024-02-10", [], id="T8 equal"),
    ],
)
def test_another_package_brings_its_own_trial(
    club: Club, days: int, new_days: int, end: str | None, charged: list[int]
) -> None:
    member = club.member()
    path = member.subscribe(club.package(5000, trial_days=days))
    club.advance("2024-02-03")
    one = member.change(path, package_id=str(club.package(9000, trial_days=new_days).id))
    assert member.charged == charged
    if end:
        assert (one["status"], one["trial_end"]) == ("trialing", shown(end))
    else:
        assert (one["status"], one["anchor_at"]) == ("active", shown("2024-02-03"))
        assert one["current_period_end"] == shown("2024-03-03")


def test_T7_a_trial_does_not_end_early_for_a_card_that_is_declined(club: Club) -> None:
    member = club.member("sandbox_declined")
    path = member.subscribe(club.package(5000, trial_days=30))
    before = member.get(path)
    after = member.change(path, package_id=str(club.package(9000).id))
    names = ("status", "trial_end", "package_id", "pending_package_id", "has_access")
    assert [after[name] for name in names] == [before[name] for name in names]


@pytest.mark.parametrize(
    ("days", "mails", "sent_by"),
    [(30, 1, "2024-02-28"), (3, 1, "2024-02-01"), (2, 1, "2024-02-01T12:00"), (1, 1, "2024-01-31T12:00")],
)
def test_T10_a_member_is_reminded_once(club: Club, mailbox: Mailbox, days: int, mails: int, sent_by: str) -> None:
    member = club.member()
    member.subscribe(club.package(5000, trial_days=days))
    club.advance(sent_by)
    club.advance("2024-03-05")
    subjects = [mail["Subject"] for mail in mailbox.mails() if "trial" in str(mail["Subject"])]
    assert len(subjects) == mails
    assert club.events().count("subscription.trial_ending") == mails


def test_T10_nobody_is_reminded_of_what_costs_nothing_or_is_canceled(club: Club, mailbox: Mailbox) -> None:
    club.member().subscribe(club.package(0, trial_days=30))
    member = club.member()
    member.change(member.subscribe(club.package(5000, trial_days=30)), cancel_at_period_end=True)
    club.advance("2024-04-01")
    assert not [mail for mail in mailbox.mails() if "trial" in str(mail["Subject"])]


def test_T11_a_trial_whose_end_cannot_be_paid_is_in_arrears_from_then(club: Club) -> None:
    member = club.member("sandbox_declined")
    path = member.subscribe(club.package(5000, trial_days=10))
    club.advance("2024-02-10T12:00")
    one = member.get(path)
    assert (one["status"], one["has_access"], one["access_until"]) == ("past_due", True, shown("2024-02-17"))
    assert one["next_charge_at"] == shown("2024-02-11")


@pytest.mark.parametrize("second", ["ada+2@example.com", "Ada@Example.com"])
def test_T12_R14_there_is_one_trial_for_each_mailbox(club: Club, second: str) -> None:
    package = club.package(5000, trial_days=10)
    first = club.member(email="ada@example.com", email_normal="ada@example.com")
    first.end(first.subscribe(package))
    other: Any = first if second == "Ada@Example.com" else club.member(email=second, email_normal=second)
    path = other.subscribe(package)
    one = other.get(path)
    assert (one["status"], one["trial_end"], one["trial_refused"]) == ("active", None, True)
    assert other.charged == [5000]


def test_another_store_has_its_own_trials(club: Club, make_club) -> None:
    member = club.member()
    member.subscribe(club.package(5000, trial_days=10))
    elsewhere = make_club()
    package = elsewhere.package(5000, trial_days=10)
    answer = member.post(f"{elsewhere.path}/subscriptions", {"package_id": str(package.id)})
    assert (answer.status_code, (answer.json or {})["status"]) == (201, "trialing")
