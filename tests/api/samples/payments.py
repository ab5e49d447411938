"""What the routes of payments are tried with."""

from typing import Any

from dues.ids import new_id
from tests.api.samples.declared import Row, Samples, Target


def _payment(target: Target) -> Row:
    world = target.world
    columns: dict[str, Any] = {}
    if target.path.endswith("/confirmations"):
        columns = {"status": "requires_action", "next_action": {"href": "/"}}
    return world.make.payment(world.store, world.customer, gateway_ref=f"sb_{new_id().hex}", **columns)


def _refund(target: Target) -> Row:
    return target.world.make.refund(target.rows["payment_id"])


def _payment_method(target: Target) -> Row:
    return target.world.make.payment_method(target.world.customer)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/me/payments                                payments:read  401 200 200 200 200 200 403 200
GET    /v1/me/payment-methods                         payments:read  401 200 200 200 200 200 403 -
POST   /v1/me/payment-methods                         payments:write 401 201 201 201 201 201 403 -
GET    /v1/me/payment-methods/{payment_method_id}     payments:read  401 404 200 404 404 404 403 -
PATCH  /v1/me/payment-methods/{payment_method_id}     payments:write 401 404 200 404 404 404 403 -
DELETE /v1/me/payment-methods/{payment_method_id}     payments:write 401 404 204 404 404 404 403 -
GET    /v1/stores/{store_id}/payments                 payments:read  401 200 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments                 payments:write 401 202 202 202 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}    payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/confirmations       payments:write 401 404 202 403 403 403 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds             payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/refunds             payments:write 401 404 403 403 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id} payments:read  401 404 200 200 200 200 403 403
""",
    bodies={
        "POST /v1/me/payment-methods": {"token": "sandbox_ok", "is_default": True},
        "PATCH /v1/me/payment-methods/{payment_method_id}": {"is_default": True},
        "POST /v1/stores/{store_id}/payments": {
            "amount": 500,
            "currency": "EUR",
            "description": "Tea",
            "payment_method": "sandbox_ok",
        },
        "POST /v1/stores/{store_id}/payments/{payment_id}/confirmations": {"outcome": "succeed"},
        "POST /v1/stores/{store_id}/payments/{payment_id}/refunds": {"amount": 100},
    },
    reads=[
        "/v1/me/payments?include=user,package,refunds",
        "/v1/me/payment-methods",
        "/v1/me/payment-methods/{payment_method_id}",
        "/v1/stores/{store_id}/payments?include=user,package,refunds",
        "/v1/stores/{store_id}/payments?cursor=&limit=3&status=succeeded",
        "/v1/stores/{store_id}/payments/{payment_id}?include=user,package,refunds",
        "/v1/stores/{store_id}/payments/{payment_id}/refunds",
        "/v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}",
    ],
    finished=[
        "/v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}",
    ],
    rows={"payment_id": _payment, "refund_id": _refund, "payment_method_id": _payment_method},
)
