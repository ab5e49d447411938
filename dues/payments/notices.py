"""Which mail about a payment goes to whom. Each has a key, so that it is sent only once, however often its job runs."""

from dataclasses import dataclass, replace
from uuid import UUID

from dues.accounts.brought_along import ONLY_BROUGHT_ALONG
from dues.accounts.unverified import count_mail
from dues.documents.service import Issued, file_name
from dues.errors import NotFound
from dues.jobs import PermanentFailure
from dues.mail.message import Attachment
from dues.mail.service import Draft
from dues.payments.confirmation import About, Recipient, Subject, payment_message
from dues.payments.receipts import IssuedReceipt, describe_payment, describe_refund, issue_receipt, issue_refund
from dues.postgres import fetch_row
from dues.settings import site

_OWNER = """
    select u.name, u.email, u.email_verified_at is not null from users u
    where u.id = %(user_id)s and u.deleted_at is null
"""
_PAYER = f"""
    select u.name, u.email,
        u.email_verified_at is not null and not {ONLY_BROUGHT_ALONG.format(store_id="%(store_id)s")}
    from users u where u.id = %(user_id)s and u.deleted_at is null
"""


@dataclass(frozen=True, slots=True)
class DocumentMail:
    """A mail with attached documents. Sending it is recorded with the documents."""

    draft: Draft
    documents: tuple[Issued, ...]


def confirmation(job_id: UUID, store_id: UUID, payment_id: UUID, invoice: Issued | None = None) -> DocumentMail:
    """The mail that tells the payer of a received payment, with the receipt and the invoice that it paid. Raises:
    PermanentFailure."""
    issued = issue_receipt(store_id, payment_id, job_id)
    return _with_documents("confirmation", store_id, issued, payment_id, f"payment-confirmation:{payment_id}", invoice)


def refund_notice(
    job_id: UUID, store_id: UUID, payment_id: UUID, refund_id: UUID, credit_note: Issued | None = None
) -> DocumentMail:
    """The mail that tells the payer of a refund that was made, with a document about it and the credit note. Raises:
    PermanentFailure."""
    issued = issue_refund(store_id, payment_id, refund_id, job_id)
    return _with_documents("refunded", store_id, issued, payment_id, f"payment-refund:{refund_id}", credit_note)


def receipt_again(job_id: UUID, store_id: UUID, payment_id: UUID) -> DocumentMail:
    """The mail that sends the payer the receipt once more, as it was issued. Raises: PermanentFailure."""
    issued = issue_receipt(store_id, payment_id, job_id)
    return _with_documents("receipt", store_id, issued, payment_id, f"document-delivery:{job_id}")


def payment_notice(store_id: UUID, payment_id: UUID, about: About, user_id: UUID | None = None) -> Draft | None:
    """A mail without documents to the payer or, with `user_id`, to one of the store's owners.

    Returns: None if it would ask for an action that is no longer required. Raises: PermanentFailure.
    """
    payer_id, status, receipt = describe_payment(store_id, payment_id)
    if about == "requires_action" and status != about:
        return None
    to = _recipient(_OWNER, user_id) if user_id else _payer(store_id, payer_id)
    subject = Subject(about=about, receipt=receipt, payment_id=str(payment_id))
    key = f"payment-{about.replace('_', '-')}:{payment_id}" + (f":{user_id}" if user_id else "")
    return _draft(key, subject, to)


def refund_returned(store_id: UUID, payment_id: UUID, refund_id: UUID, *, is_credited: bool) -> Draft:
    """The mail that tells the payer that their bank has sent a refund back. Raises: PermanentFailure."""
    payer_id, receipt = describe_refund(store_id, payment_id, refund_id)
    subject = Subject(about="returned", receipt=receipt, payment_id=str(payment_id), is_credited=is_credited)
    return _draft(f"payment-returned:{refund_id}", subject, _payer(store_id, payer_id))


def _with_documents(
    about: About, store_id: UUID, issued: IssuedReceipt, payment_id: UUID, key: str, beside: Issued | None = None
) -> DocumentMail:
    to = _payer(store_id, issued.document.user_id)
    attached = Attachment(file_name(beside), beside.content, "application/pdf") if beside and beside.content else None
    subject = Subject(
        about=about, receipt=issued.receipt, payment_id=str(payment_id), file=issued.file, beside=attached
    )
    documents = (issued.document, beside) if beside else (issued.document,)
    # The name is the one stored in the document; the address and whether it is verified are current.
    return DocumentMail(_draft(key, subject, replace(to, name=issued.receipt.payer.name)), documents)


def _draft(key: str, subject: Subject, to: Recipient) -> Draft:
    """Raises: PermanentFailure if an address that gets nobody's words has reached its daily limit of mails."""
    if not to.knows_sender:
        count_mail(key, to.email)
    return Draft(key, to.email, payment_message(subject, to, site=site()))


def _payer(store_id: UUID, user_id: UUID) -> Recipient:
    return _recipient(_PAYER, user_id, store_id)


def _recipient(statement: str, user_id: UUID, store_id: UUID | None = None) -> Recipient:
    row = fetch_row(statement, {"user_id": user_id, "store_id": store_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such user"))
    return Recipient(*row)
