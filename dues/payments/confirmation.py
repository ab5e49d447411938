"""The mails about a payment: that it was received, and that some of it was given back. Data in, message out."""

from pathlib import Path

from dues.mail.message import Attachment, Message, Templates
from dues.payments.receipt import STATUS_WORDS, Receipt, receipt_pdf

_templates = Templates(Path(__file__).parent / "templates")

# A line of a mail's table: what, how much or which, and whether it stands out.
Fact = tuple[str, str, bool]


def confirmation_message(receipt: Receipt, *, store_email: str = "") -> Message:
    """What the payer is told once a payment has succeeded, with the receipt. `store_email` is where answers go."""
    facts = [*_facts(receipt), ("Total paid", receipt.money(receipt.amount), True)]
    subject = f"Your payment to {receipt.store}: {receipt.money(receipt.amount)}"
    return _message("payment_confirmation", subject, receipt, facts, store_email)


def refund_message(receipt: Receipt, refund: int, *, store_email: str = "") -> Message:
    """What the payer is told once `refund` minor units were given back; `receipt` already counts them as refunded."""
    facts: list[Fact] = [
        *_facts(receipt),
        ("Total paid", receipt.money(receipt.amount), False),
        ("Refunded in all", receipt.money(receipt.refunded), True),
        ("Status", STATUS_WORDS.get(receipt.status, receipt.status), False),
    ]
    subject = f"Your refund from {receipt.store}: {receipt.money(refund)}"
    return _message("payment_refunded", subject, receipt, facts, store_email, refund=receipt.money(refund))


def _message(
    template: str, subject: str, receipt: Receipt, facts: list[Fact], store_email: str, **values: str
) -> Message:
    return _templates.message(
        template,
        subject=subject,
        to_name=receipt.payer,
        reply_to=store_email,
        attachments=(Attachment(f"receipt-{receipt.number}.pdf", receipt_pdf(receipt), "application/pdf"),),
        receipt=receipt,
        total=receipt.money(receipt.amount),
        facts=facts,
        greeting=f"Hello {receipt.payer}," if receipt.payer else "Hello,",
        can_reply=bool(store_email),
        **values,
    )


def _facts(receipt: Receipt) -> list[Fact]:
    lines = [(line.description or "Payment", receipt.money(line.amount), False) for line in receipt.lines]
    return [("Receipt number", receipt.number, False), ("Date", receipt.date, False), *lines]
