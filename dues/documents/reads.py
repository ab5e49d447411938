"""What may be read of documents."""

from dues.documents.models import Document
from dues.reads import Computed, Equal, Range, Resource
from dues.reads.resource import links_schema

_DELIVERY = """(
    select d.status from document_deliveries d where d.store_id = {store_id} and d.document_id = {id}
    order by d.created_at desc, d.job_id desc limit 1)"""
_FILE = """case {kind}
    when 'receipt' then '/v1/stores/' || {store_id} || '/payments/' || {payment_id} || '/receipt'
    when 'refund' then '/v1/stores/' || {store_id} || '/payments/' || {payment_id} || '/refunds/' || {subject_id}
        || '/receipt'
    when 'invoice' then '/v1/stores/' || {store_id} || '/invoices/' || {subject_id} || '/file'
    when 'credit_note' then '/v1/stores/' || {store_id} || '/invoices/' || ({data} #>> '{{credit,invoice_id}}')
        || '/credit-notes/' || {subject_id} || '/file' end"""
_KINDS = ("receipt", "refund", "invoice", "credit_note")

documents = Resource(
    "Document",
    Document,
    fields={
        "id": Document.id,
        "store_id": Document.store_id,
        "kind": Computed("{kind}", {"type": "string", "enum": list(_KINDS)}),
        "number": Document.number,
        "user_id": Document.user_id,
        "payment_id": Document.payment_id,
        "refund_id": Computed(
            "case when {kind} = 'refund' then {subject_id} end", {"type": ["string", "null"], "format": "uuid"}
        ),
        "bytes": Document.bytes,
        "delivery_status": Computed(
            _DELIVERY,
            {
                "type": ["string", "null"],
                "enum": ["pending", "sent", "rejected", "unknown", None],
                "description": "of the last mail that it was sent with: `rejected` by the mail server, say",
            },
        ),
        "version": Document.version,
        "created_at": Document.created_at,
        "updated_at": Document.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/stores/' || {store_id} || '/documents/' || {id},"
            f" 'file', {_FILE}, 'payment', '/v1/stores/' || {{store_id}} || '/payments/' || {{payment_id}})",
            links_schema("self", "file", nullable=("payment",)),
        ),
    },
    # The file is made a moment after the document is issued.
    where="{content} is not null",
    filters={
        "kind": Equal(Document.kind, _KINDS),
        "number": Equal(Document.number),
        "user_id": Equal(Document.user_id),
        "payment_id": Equal(Document.payment_id),
        "created_at": Range(Document.created_at),
    },
    sorts={"created_at": Document.created_at},
    tags=lambda scope: (f"store:{scope['store_id']}:documents",),
)
