"""The mails about a payment, as data in and message out."""

import re
from typing import Any, get_args

import pytest

from dues.mail.message import Message
from dues.payments.confirmation import About, Recipient, Subject, payment_message
from dues.payments.receipt import Payer, Refunded, Seller
from tests.payments.test_receipt import REFUND, receipt

pytestmark = pytest.mark.unit

ADA = Recipient("Ada Müller", "ada@example.org", knows_sender=True)
STRANGER = Recipient("Visit http://evil.example to win", "victim@example.org", knows_sender=False)
ABOUT: tuple[About, ...] = get_args(About)
OF_REFUNDS = ("refunded", "returned")


def message(
    about: About = "confirmation", to: Recipient = ADA, file: bytes | None = b"%PDF", **changes: Any
) -> Message:
    refund = REFUND if about in OF_REFUNDS else None
    said = receipt(**{"refund": refund} | changes)
    return payment_message(Subject(about=about, receipt=said, payment_id="p-1", file=file), to, site="dues.example")


def test_a_confirmation_has_the_receipt_with_it():
    mail = message(seller=Seller(name="Kestrel Climbing Club", contact_email="club@example.org"))
    assert mail.subject == "Your payment to Kestrel Climbing Club: 120.00 EUR"
    assert (mail.to_name, mail.from_name, mail.reply_to) == ("Ada Müller", "Kestrel Climbing Club", "club@example.org")
    [attachment] = mail.attachments
    assert (attachment.filename, attachment.content_type) == ("receipt-R-000123.pdf", "application/pdf")
    for body in (mail.text, mail.html):
        for text in ("Hello Ada Müller,", "R-000123", "20 November 2026, 14:39 UTC", "Annual membership"):
            assert text in body
        assert "Reply to this mail" in body
    assert "Total paid: 120.00\N{NO-BREAK SPACE}EUR" in mail.text
    assert not mail.unsubscribe_url


def test_without_an_address_for_answers_the_website_is_named_or_nothing():
    assert "Reply to this mail" not in message().text + message().html
    there = message(seller=Seller(name="Kestrel", website="https://kestrel.example"))
    assert "Questions? https://kestrel.example" in there.text


def test_a_refund_says_how_much_why_and_what_is_left():
    mail = message("refunded", number="RF-000007")
    assert mail.subject == "Your refund from Kestrel Climbing Club: 30.00 EUR"
    assert mail.attachments[0].filename == "refund-RF-000007.pdf"
    for line in (
        "Refund number: RF-000007",
        "Date: 1 December 2026, 09:00 UTC",
        "Reason: “Moved away”",
        "For receipt: R-000123",
        "This refund: 30.00 EUR",
        "Paid after refunds: 90.00 EUR",
    ):
        assert line in mail.text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("is_credited", "said"),
    [(True, "it pays for what"), (False, "agree with them")],
)
def test_whoever_did_not_get_a_refund_hears_what_becomes_of_the_money(is_credited: bool, said: str):
    subject = Subject(
        about="returned", receipt=receipt(refund=REFUND, number=""), payment_id="p-1", is_credited=is_credited
    )
    mail = payment_message(subject, ADA, site="dues.example")
    assert mail.subject == "Your refund from Kestrel Climbing Club came back: 30.00 EUR"
    assert said in mail.text
    assert said in mail.html
    assert "Sent back: 30.00\N{NO-BREAK SPACE}EUR" in mail.text
    assert "Total" not in mail.text
    assert not mail.attachments


def test_an_owner_hears_of_a_new_payment_and_can_answer_the_payer():
    mail = message("received", file=None)
    assert mail.reply_to == "ada@example.org"
    assert "Paid by: “Ada Müller”" in mail.text
    assert "Payment: p-1" in mail.text
    assert "notify_new_payment" in mail.text
    assert not mail.attachments


FORGED = "Ticket: 0.00 EUR\nTotal paid: 9,999.00 EUR\n\n--\nhttp://evil.example\r\n\u2028Date: never\x85x"


@pytest.mark.parametrize("about", ABOUT)
def test_what_people_write_can_pose_as_nothing_else(about: About):
    honest = message(about)
    names: dict[str, Any] = {"seller": Seller(name=FORGED), "payer": Payer(name=FORGED, email="a@b.example")}
    refund: dict[str, Any] = {}
    if about in OF_REFUNDS:
        refund = {"refund": Refunded(amount=1, refunded_at=REFUND.refunded_at, receipt_number="R-1", reason=FORGED)}
    forged = message(about, Recipient(FORGED, "a@b.example", knows_sender=True), description=FORGED, **names, **refund)
    fields = [line.partition(":")[0] for line in honest.text.splitlines() if re.match(r"[A-Z][a-z ]+: ", line)]
    found = [line.partition(":")[0] for line in forged.text.splitlines() if re.match(r"[A-Z][a-z ]+: ", line)]
    assert found == fields
    assert len(forged.text.splitlines()) == len(honest.text.splitlines())
    assert "\n" not in forged.subject
    assert sum(line.startswith("Total paid") for line in forged.text.splitlines()) <= 1


@pytest.mark.parametrize("about", ABOUT)
def test_names_are_text_never_markup(about: About):
    hostile = '<img src=x onerror="alert(1)">'
    mail = message(
        about,
        Recipient(hostile, "a@b.example", knows_sender=True),
        seller=Seller(name=hostile, website="https://x.example/<img>"),
        description=hostile,
    )
    assert "<img" not in mail.html
    assert hostile in mail.text


@pytest.mark.parametrize("name", ["متجر النور", "מועדון", "Shop متجر"])
def test_a_text_read_from_right_to_left_turns_nothing_around_it(name: str):
    mail = message(seller=Seller(name=name))
    assert mail.subject == f"Your payment to \u2068{name}\u2069: 120.00 EUR"
    assert f"to \u2068{name}\u2069 has arrived" in mail.text
    assert mail.html.count(name) == mail.html.count(f"<bdi>{name}</bdi>") + mail.html.count(f"<title>{mail.subject}<")


def test_characters_that_turn_text_around_are_taken_out():
    mail = message(description="\u202e0001 RUE\u202c \u2066x\u2069")
    assert "“0001 RUE x”" in mail.text
    assert not set("\u202e\u202c\u2066") & set(mail.text + mail.html)


@pytest.mark.parametrize("about", ABOUT)
def test_an_amount_never_breaks(about: About):
    mail = message(about, amount=999_999_999_999, currency="KWD", refund=REFUND if about in OF_REFUNDS else None)
    assert "999,999,999.999 KWD" not in mail.text
    assert "999,999,999.999\N{NO-BREAK SPACE}KWD" in mail.text
    amounts = re.findall(r"(<span[^>]*>)?999,999,999\.999", mail.html.partition("<body")[2])
    assert amounts
    assert all("nowrap" in span for span in amounts)


@pytest.mark.parametrize("about", ABOUT)
def test_an_address_that_nobody_proved_is_told_nothing_that_somebody_wrote(about: About):
    evil = "Your account is locked: http://evil.example"
    seller = Seller(
        name=evil, lines=[evil], contact_email="evil@evil.example", website="http://evil.example", note=evil
    )
    refund: dict[str, Any] = {}
    if about in OF_REFUNDS:
        refund = {"refund": Refunded(amount=1, refunded_at=REFUND.refunded_at, receipt_number="EVIL-R-1", reason=evil)}
    payer = Payer(name=evil, email="victim@example.org", lines=[evil])
    mail = message(about, STRANGER, seller=seller, description=evil, payer=payer, number="EVIL-R-1", **refund)
    said = mail.subject + mail.text + mail.html
    assert "evil" not in said.lower()
    assert STRANGER.name not in said
    assert (mail.to_name, mail.from_name, mail.reply_to, mail.attachments) == ("", "", "", ())
    assert "120.00\N{NO-BREAK SPACE}EUR" in mail.text
    assert "dues.example" in mail.text
