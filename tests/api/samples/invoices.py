"""What the routes of invoices are tried with."""

from tests.api.samples.declared import Row, Samples, Target


def _invoice(target: Target) -> Row:
    return target.world.make.invoice(target.world.store, target.world.customer, status="paid")


def _note(target: Target) -> Row:
    return target.world.make.credit_note(target.rows["invoice_id"])


def _arrange(target: Target) -> None:
    if target.path.endswith("/file"):
        invoice, note, world = target.rows["invoice_id"], target.rows.get("note_id"), target.world
        of = {"kind": "credit_note", "subject_id": note.id} if note else {"kind": "invoice", "subject_id": invoice.id}
        world.make.document(world.store, world.customer, data={"credit": {"invoice_id": str(invoice.id)}}, **of)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/invoices                     payments:read  401 200 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}        payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/file   payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id}/file payments:read 401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes payments:write 401 404 403 403 201 201 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id} payments:read 401 404 200 200 200 200 403 403
""",  # noqa: E501
    bodies={
        "POST /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes": {"amount": 100, "to": "balance"},
    },
    reads=[
        "/v1/stores/{store_id}/invoices?include=user,credit_notes",
        "/v1/stores/{store_id}/invoices/{invoice_id}?include=user,credit_notes",
        "/v1/stores/{store_id}/invoices/{invoice_id}/credit-notes",
        "/v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id}",
    ],
    finished=[
        "/v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id}",
    ],
    rows={"invoice_id": _invoice, "note_id": _note},
    arrange=_arrange,
)
