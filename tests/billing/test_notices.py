"""The mails about a membership: whose words they hold, and to whom these are sent."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dues.billing.notice import Facts, notice_message, plain_message
from dues.billing.notices import NOTICE_KINDS, NoticeKind
from dues.ids import new_id
from tests.billing.conftest import Club
from tests.servers import Mailbox

FACTS = Facts(
    subscription_id=new_id(),
    store="Win at prize.example",
    contact_email="hello@prize.example",
    member="Ada Lovelace",
    package="Call 0900 1234",
    amount=1900,
    currency="EUR",
    timezone="Europe/Berlin",
    of=datetime(2026, 11, 20, tzinfo=UTC),
    until=None,
    next_at=datetime(2026, 11, 27, tzinfo=UTC),
    failure_code="insufficient_funds",
    card="Visa •••• 4242",
)
TYPED = ("Win", "prize", "Ada", "0900")


@pytest.mark.parametrize("kind", NOTICE_KINDS)
def test_an_address_that_nobody_proved_gets_nobodys_words(kind: NoticeKind) -> None:
    message = plain_message(kind, FACTS, site="dues.example")
    assert (message.to_name, message.from_name, message.reply_to) == ("", "", "")
    for text in (message.subject, message.text, message.html):
        assert not [word for word in TYPED if word in text]
    assert str(FACTS.subscription_id) in message.text


@pytest.mark.parametrize("kind", NOTICE_KINDS)
def test_others_hear_from_the_store_and_can_answer_it(kind: NoticeKind) -> None:
    message = notice_message(kind, FACTS)
    assert (message.to_name, message.from_name, message.reply_to) == ("Ada Lovelace", FACTS.store, FACTS.contact_email)
    assert FACTS.store in message.text


def test_a_name_turns_nothing_around_it() -> None:
    message = notice_message("ended", replace(FACTS, store="نادي"))
    assert "\u2068نادي\u2069" in message.subject
    assert "\u2068نادي\u2069" in message.text


def test_who_has_not_proved_their_address_is_not_written_to_in_a_stores_words(club: Club, mailbox: Mailbox) -> None:
    member = club.member(name="Ada Lovelace", email_verified_at=None)
    path = member.subscribe(club.package(5000, name="Call 0900 1234"))
    member.change(path, cancel_at_period_end=True)
    club.advance("2024-02-29")
    mails = [mail for mail in mailbox.mails() if "membership" in str(mail["Subject"])]
    assert [mail["Subject"] for mail in mails] == ["Your membership is canceled", "Your membership has ended"]
    assert not [mail for mail in mails if any(word in mail.as_string() for word in ("0900", "Ada", "Club"))]


def test_an_unproved_address_gets_so_many_mails_a_day_of_all_kinds(club: Club, mailbox: Mailbox) -> None:
    member = club.member(email_verified_at=None)
    for _ in range(12):
        member.end(member.subscribe(club.package(5000)))
    assert len(mailbox.mails()) == 20
