"""Cards that expire before they are charged next: their members are told in time, once."""

from typing import Any

import pytest

from tests.billing.conftest import Club, Member
from tests.servers import Mailbox


def expires(club: Club, member: Member, year: int, month: int) -> None:
    club.make.rows(
        "update payment_methods set exp_year = %(year)s, exp_month = %(month)s where user_id = %(id)s",
        {"year": year, "month": month, "id": member.user.id},
    )


def warnings(mailbox: Mailbox) -> list[str]:
    return [str(mail["Subject"]) for mail in mailbox.mails() if "expires before" in str(mail["Subject"])]


SUBJECT = "Visa •••• 4242 expires before your membership at Club renews"


def test_a_month_before_it_is_charged_in_vain(club: Club, mailbox: Mailbox) -> None:
    member = club.member()
    expires(club, member, 2024, 3)
    member.subscribe(club.package(5000))
    club.advance("2024-03-30")
    assert warnings(mailbox) == []
    # It is good for the renewal of 31 March, and not for the one after.
    club.advance("2024-03-31")
    assert warnings(mailbox) == [SUBJECT]
    mails = [mail for mail in mailbox.mails() if mail["Subject"] == SUBJECT]
    body = mails[0].get_body(("plain",))
    assert body
    assert "renews on 30 April 2024 for 50.00 EUR" in " ".join(body.get_content().split())
    club.advance("2024-04-29")
    assert warnings(mailbox) == [SUBJECT]


def test_a_new_member_whose_card_is_about_to_expire_is_told_at_once(club: Club, mailbox: Mailbox) -> None:
    member = club.member()
    expires(club, member, 2024, 1)
    member.subscribe(club.package(5000))
    assert warnings(mailbox) == [SUBJECT]
    # The default card is what the next renewal is charged to.
    member.card("sandbox_ok")
    club.advance("2024-03-31")
    assert warnings(mailbox) == [SUBJECT]


@pytest.mark.parametrize(
    ("interval", "columns", "told"),
    [
        pytest.param("year", {}, "2025-01-01", id="a yearly one 30 days before"),
        pytest.param("month", {"trial_days": 20}, "2024-02-17", id="of a trial 3 days before"),
    ],
)
def test_who_is_reminded_is_told_then(
    club: Club, mailbox: Mailbox, interval: str, columns: dict[str, Any], told: str
) -> None:
    member = club.member()
    expires(club, member, 2024, 1)
    member.subscribe(club.package(5000, interval, **columns))
    assert warnings(mailbox) == []
    club.advance(f"{told}T00:00:00")
    assert warnings(mailbox) == [SUBJECT]


@pytest.mark.parametrize("change", [{"cancel_at_period_end": True}, {"paused": True}])
def test_who_is_not_charged_is_not_told(club: Club, mailbox: Mailbox, change: dict[str, Any]) -> None:
    member = club.member()
    path = member.subscribe(club.package(5000))
    expires(club, member, 2024, 1)
    member.change(path, **change)
    club.advance("2024-03-31")
    assert warnings(mailbox) == []


def test_nor_is_who_pays_nothing(club: Club, mailbox: Mailbox) -> None:
    member = club.member()
    expires(club, member, 2024, 1)
    member.subscribe(club.package(0))
    club.advance("2024-03-31")
    assert warnings(mailbox) == []
