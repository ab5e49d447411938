"""What the routes of documents are tried with."""

from tests.api.samples.declared import Row, Samples, Target


def _document(target: Target) -> Row:
    """Of the payment or the refund that the path names, else of a payment of its own."""
    world, rows = target.world, target.rows
    payment = rows.get("payment_id") or world.make.payment(world.store, world.customer)
    of_payment = {"payment_id": payment.id, "subject_id": payment.id}
    document = world.make.document(world.store, world.customer, **of_payment)
    if refund := rows.get("refund_id"):
        of_refund = {"kind": "refund", "subject_id": refund.id}
        document = world.make.document(world.store, world.customer, **of_payment | of_refund)
    return document


def _arrange(target: Target) -> None:
    if "/receipt" in target.path:
        _document(target)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/documents                payments:read  401 200 200 200 200 200 403 403
GET    /v1/stores/{store_id}/documents/{document_id}  payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/receipt             payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/receipt/deliveries  payments:write 401 404 202 202 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}/receipt payments:read 401 404 200 200 200 200 403 403
""",  # noqa: E501
    reads=[
        "/v1/stores/{store_id}/documents",
        "/v1/stores/{store_id}/documents/{document_id}",
        "/v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}/receipt",
    ],
    finished=[
        "/v1/stores/{store_id}/documents/{document_id}",
        "/v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}/receipt",
    ],
    rows={"document_id": _document},
    arrange=_arrange,
)
