"""The mails about a payment: data in, message out.

Text that customers wrote (names, descriptions, reasons, and receipts, which contain them) is sent only to verified
addresses, of people whom the store has not just imported: so nobody can use Dues to send texts of their own to others.
Mails to all others contain only the amount and the time.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dues.mail.message import Attachment, Message, Templates, unverified_message
from dues.mail.wording import Amount, Words
from dues.payments.receipt import Receipt

_templates = Templates(Path(__file__).parent / "templates")

# What a mail is about; this is also the name of its template.
About = Literal["confirmation", "receipt", "refunded", "returned", "failed", "requires_action", "received"]

# A row of a mail's table: label, value, and whether it is emphasised.
Fact = tuple[str, str | Words | Amount, bool]

_SUBJECTS: dict[About, str] = {
    "confirmation": "Your payment to {shop}: {amount.text}",
    "receipt": "Your receipt from {shop}: {amount.text}",
    "refunded": "Your refund from {shop}: {refunded.text}",
    "returned": "Your refund from {shop} came back: {refunded.text}",
    "failed": "Your payment to {shop} did not go through",
    "requires_action": "Your payment to {shop} waits for you",
    "received": "New payment to {shop}: {amount.text}",
}
# The same for unverified addresses, without any text that customers wrote.
_PLAIN: dict[About, tuple[str, str]] = {
    "confirmation": ("Your payment of {amount}", "A payment of {amount} was received."),
    "receipt": ("Your payment of {amount}", "A payment of {amount} was received."),
    "refunded": ("Your refund of {refunded}", "{refunded} of a payment of {amount} were refunded."),
    "returned": (
        "Your refund of {refunded} came back",
        "A refund of {refunded}, of a payment of {amount}, was sent back by your bank.",
    ),
    "failed": ("A payment did not go through", "A payment of {amount} did not go through; nothing was charged."),
    "requires_action": ("A payment waits for you", "A payment of {amount} waits to be confirmed by its payer."),
    "received": ("A new payment of {amount}", "Your store has received a payment of {amount}."),
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """The recipient of a mail. `knows_sender`: they have proved that the address is theirs, and have not only been
    imported by the store."""

    name: str
    email: str
    knows_sender: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a mail is about: `receipt` holds the payment's data. `file` (the receipt as a PDF) and `beside` are
    attached, if given. `is_credited`: a refund that came back was credited to the payer's balance."""

    about: About
    receipt: Receipt
    payment_id: str
    file: bytes | None = None
    beside: Attachment | None = None
    is_credited: bool = False


def payment_message(subject: Subject, to: Recipient, *, site: str) -> Message:
    """The mail about a payment. `site` is the name of the operator's service."""
    values = _values(subject.receipt)
    if not to.knows_sender:
        return _plain_message(subject, values, site)
    receipt, seller = subject.receipt, subject.receipt.seller
    is_owner = subject.about == "received"
    shown: dict[str, Any] = {
        "greeting": f"Hello {Words(to.name)}," if to.name else "Hello,",
        "facts": _facts(subject),
        "is_invoiced": subject.beside is not None,
        "is_credited": subject.is_credited,
        "can_reply": bool(seller.contact_email),
        "website": seller.website,
        **values,
    }
    return _templates.message(
        f"payment_{subject.about}",
        subject=_SUBJECTS[subject.about].format_map(values),
        to_name=to.name,
        from_name=seller.name,
        reply_to=receipt.payer.email if is_owner else seller.contact_email,
        attachments=_attachments(subject),
        **shown,
    )


def _plain_message(subject: Subject, values: dict[str, Words | Amount], site: str) -> Message:
    title, sentence = (text.format_map(values) for text in _PLAIN[subject.about])
    facts = [("Date", subject.receipt.moment(subject.receipt.issued_at), False), ("Payment", subject.payment_id, False)]
    return unverified_message(
        title,
        sentence,
        facts,
        site=site,
        left_out="Names, descriptions and documents are",
        then="; then you can ask for the receipt again",
    )


def _values(receipt: Receipt) -> dict[str, Words | Amount]:
    refunded = receipt.refund.amount if receipt.refund else 0
    return {
        "shop": Words(receipt.seller.name),
        "amount": Amount(receipt.money(receipt.amount)),
        "refunded": Amount(receipt.money(refunded)),
    }


def _facts(subject: Subject) -> list[Fact]:
    receipt, refund = subject.receipt, subject.receipt.refund
    facts: list[Fact] = [
        (f"{receipt.title} number", receipt.number, False),
        ("Date", receipt.moment(receipt.issued_at), False),
        ("For", Words(receipt.what), False),
        ("Total paid" if receipt.number else "Amount", Amount(receipt.money(receipt.amount)), refund is None),
    ]
    if refund and subject.about == "returned":
        facts = [("Refunded", receipt.moment(receipt.issued_at), False), *facts[2:3]]
        facts += [("Sent back", Amount(receipt.money(refund.amount)), True)]
    elif refund:
        left = receipt.amount - refund.before - refund.amount
        facts += [
            ("Reason", Words(refund.reason), False),
            ("For receipt", refund.receipt_number, False),
            ("This refund", Amount(receipt.money(refund.amount)), True),
            ("Paid after refunds", Amount(receipt.money(left)), False),
        ]
    if subject.about == "received":
        facts += [("Paid by", Words(receipt.payer.name), False), ("Payment", subject.payment_id, False)]
    return [fact for fact in facts if fact[1]]


def _attachments(subject: Subject) -> tuple[Attachment, ...]:
    if subject.file is None:
        return ()
    receipt = Attachment(file_name(subject.receipt), subject.file, "application/pdf")
    return (subject.beside, receipt) if subject.beside else (receipt,)


def file_name(receipt: Receipt) -> str:
    """The file name of an attached document."""
    return f"{receipt.title.lower()}-{receipt.number}.pdf"
