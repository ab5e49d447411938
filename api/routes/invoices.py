"""Invoices and credit notes: staff see the store's, others their own."""

from uuid import UUID

from api.reply import Reply
from api.routes.documents import FILE, download
from api.routing import Call, Routes
from dues.billing.credit_notes import NewCreditNote, create_credit_note, get_invoice
from dues.billing.invoices import Invoice
from dues.billing.reads import credit_notes, invoices
from dues.documents.service import get_file
from dues.errors import NotFound
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes(
    "invoices",
    examples={
        "Invoice.status": "paid",
        "User.name": "Ada Lovelace",
    },
    bodies={
        "NewCreditNote": {"to the balance": {"amount": 500, "reason": "Closed for a week", "to": "balance"}},
    },
)
LIST = "/v1/stores/{store_id}/invoices"
ONE = LIST + "/{invoice_id}"
NOTES, NOTE = ONE + "/credit-notes", ONE + "/credit-notes/{note_id}"


def _find(call: Call) -> Invoice:
    invoice = get_invoice(call.ids["store_id"], call.ids["invoice_id"])
    if call.only_user not in (None, invoice.user_id):
        raise NotFound("there is no such invoice")
    return invoice


def _note(call: Call, note_id: UUID) -> Scope:
    ids = call.ids
    return {"store_id": ids["store_id"], "invoice_id": ids["invoice_id"], "viewer_id": None, "id": note_id}


@routes.get(LIST, "payments:read", lists=invoices)
def list_invoices(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(invoices, call.visible)


@routes.get(ONE, "payments:read", reads=invoices)
def get_one_invoice(call: Call, store_id: UUID, invoice_id: UUID) -> ReadPlan:
    """An invoice"""
    return call.one(invoices, call.visible | {"id": invoice_id})


@routes.get(f"{ONE}/file", "payments:read", responses=FILE)
def download_invoice(call: Call, store_id: UUID, invoice_id: UUID) -> Reply:
    """The PDF of a final invoice; 404 until it is made, a moment after the invoice is paid."""
    return download(call, get_file(store_id, "invoice", invoice_id))


@routes.get(NOTES, "payments:read", lists=credit_notes)
def list_credit_notes(call: Call, store_id: UUID, invoice_id: UUID) -> ReadPlan:
    return call.list(credit_notes, {"store_id": store_id, "invoice_id": invoice_id, "viewer_id": call.only_user})


@routes.post(
    NOTES,
    "payments:write",
    role="manager",
    find=_find,
    shows=True,
    body=NewCreditNote,
    returns=credit_notes,
    idempotency="required",
    moves_money=True,
    slow=_note,
    statuses=(202, 201),
)
def credit_invoice(call: Call, store_id: UUID, invoice_id: UUID) -> Reply:
    """Take back some of an invoice

    By a refund, which a job makes (202), or to the member's balance (201).
    """
    note_id, job_id = create_credit_note(call.row, call.actor.user_id, call.data)
    return call.accepted(note_id, job_id) if job_id else call.created(credit_notes, _note(call, note_id))


@routes.get(NOTE, "payments:read", reads=credit_notes)
def get_credit_note(call: Call, store_id: UUID, invoice_id: UUID, note_id: UUID) -> ReadPlan:
    scope = {"store_id": store_id, "invoice_id": invoice_id, "viewer_id": call.only_user, "id": note_id}
    return call.one(credit_notes, scope)


@routes.get(f"{NOTE}/file", "payments:read", responses=FILE)
def download_credit_note(call: Call, store_id: UUID, invoice_id: UUID, note_id: UUID) -> Reply:
    """The PDF of an issued credit note; 404 until it is made."""
    document = get_file(store_id, "credit_note", note_id)
    if document.data["credit"]["invoice_id"] != str(invoice_id):
        raise NotFound("there is no credit note yet", code="not_issued")
    return download(call, document)
