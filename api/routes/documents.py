"""What was issued: receipts and documents of refunds, to read about, to download, and to have sent again. Staff see the
store's, others their own."""

from typing import Any
from uuid import UUID

from api.downloads import file_content
from api.reply import Reply
from api.routes.payments import ONE as PAYMENT
from api.routes.payments import REFUND
from api.routing import Call, Routes
from dues.documents.reads import documents
from dues.documents.service import Issued, file_name, get_file
from dues.errors import NotFound
from dues.payments import service
from dues.payments.models import Payment
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes(
    "documents",
    examples={
        "Document.kind": "receipt",
        "Document.refund_id": None,
        "delivery_status": "sent",
    },
)
LIST, ONE = "/v1/stores/{store_id}/documents", "/v1/stores/{store_id}/documents/{document_id}"
RECEIPT, REFUND_RECEIPT = PAYMENT + "/receipt", REFUND + "/receipt"

FILE: dict[int, dict[str, Any]] = {
    200: {
        "description": "The document, as it was issued",
        "content": file_content("application/pdf"),
    },
    304: {"description": "Not modified: what you have still holds"},
}


def _find_payment(call: Call) -> Payment:
    return service.get_payment(call.ids["store_id"], call.ids["payment_id"], call.only_user)


def _document(call: Call, document_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": document_id}


@routes.get(LIST, "payments:read", lists=documents)
def list_documents(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(documents, call.visible)


@routes.get(ONE, "payments:read", reads=documents)
def get_document(call: Call, store_id: UUID, document_id: UUID) -> ReadPlan:
    return call.one(documents, call.visible | {"id": document_id})


@routes.get(RECEIPT, "payments:read", responses=FILE)
def download_receipt(call: Call, store_id: UUID, payment_id: UUID) -> Reply:
    """The receipt of a payment, as it was issued; 404 until it is."""
    return download(call, get_file(store_id, "receipt", payment_id))


@routes.get(REFUND_RECEIPT, "payments:read", responses=FILE)
def download_refund_receipt(call: Call, store_id: UUID, payment_id: UUID, refund_id: UUID) -> Reply:
    """The document of a refund, as it was issued; 404 until it is."""
    return download(call, get_file(store_id, "refund", refund_id), payment_id)


@routes.post(
    f"{RECEIPT}/deliveries",
    "payments:write",
    find=_find_payment,
    returns=documents,
    slow=_document,
    statuses=(202, 201),
)
def send_receipt_again(call: Call, store_id: UUID, payment_id: UUID) -> Reply:
    """Have the receipt mailed to its payer again

    At most five times a day, the first mail included.
    """
    document_id, job_id = service.send_receipt_again(call.row, call.actor.user_id)
    return call.accepted(document_id, job_id)


def download(call: Call, document: Issued, payment_id: UUID | None = None) -> Reply:
    """The file of a document, for its recipient and the store's staff.

    Raises: NotFound for a document of another's, or of another payment, as if there were none.
    """
    only = call.only_user
    if only not in (None, document.user_id) or payment_id not in (None, document.payment_id):
        raise NotFound(f"there is no {document.kind.replace('_', ' ')} yet", code="not_issued")
    headers = {
        "ETag": f'"{document.sha256}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization",
        "Content-Disposition": f'attachment; filename="{file_name(document)}"',
    }
    return Reply(document.content, 200, headers, "application/pdf")
