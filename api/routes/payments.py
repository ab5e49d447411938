"""Payments, refunds and stored payment methods: staff see the store's payments, others their own."""

from uuid import UUID

from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.errors import Forbidden, PreconditionFailed
from dues.payments import methods, service, setups
from dues.payments.gateways import gateway_from_access
from dues.payments.methods import NewPaymentMethod, PaymentMethodChange
from dues.payments.models import Payment, PaymentMethod
from dues.payments.reads import payment_methods, payments, refunds
from dues.payments.service import Confirmation, NewPayment, NewRefund
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes(
    "payments",
    examples={
        "NewRefund.amount": 500,
        "brand": "visa",
        "exp_month": 12,
        "exp_year": 2031,
        "last4": "4242",
        "next_action": None,
        "dispute": None,
        "outcome": "succeed",
        "refunded_amount": 0,
        "NewPaymentMethod.token": "sandbox_ok",
    },
    bodies={
        "NewPayment": {
            "an amount": {"amount": 1900, "currency": "EUR", "description": "Donation", "payment_method": "sandbox_ok"},
            "a package": {"package_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "payment_method": "sandbox_ok"},
        },
    },
)
LIST = "/v1/stores/{store_id}/payments"
ONE = LIST + "/{payment_id}"
REFUNDS, REFUND = ONE + "/refunds", ONE + "/refunds/{refund_id}"
CONFIRMATIONS = ONE + "/confirmations"
METHODS, METHOD = "/v1/me/payment-methods", "/v1/me/payment-methods/{payment_method_id}"

_PACKAGE_SEEN = {
    "name": "If-Match",
    "in": "header",
    "description": "The package's ETag when its price was shown: 412 where the package has changed since.",
    "schema": {"type": "string"},
}


def _find(call: Call) -> Payment:
    return service.get_payment(call.ids["store_id"], call.ids["payment_id"], call.only_user)


def _payment(call: Call, payment_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": payment_id}


def _refund(call: Call, refund_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "payment_id": call.ids["payment_id"], "user_id": None, "id": refund_id}


def _find_own(call: Call) -> Payment:
    payment = _find(call)
    if payment.user_id != call.actor.user_id:
        raise Forbidden("only its payer can confirm a payment")
    return payment


@routes.get(LIST, "payments:read", lists=payments)
def list_payments(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(payments, call.visible)


@routes.post(
    LIST,
    "payments:write",
    body=NewPayment,
    limit="payments",
    returns=payments,
    idempotency="required",
    moves_money=True,
    slow=_payment,
    statuses=(202, 201),
    responses={412: {}},
    parameters=[_PACKAGE_SEEN],
)
def create_payment(call: Call, store_id: UUID) -> Reply:
    """Pay for a package, or an amount

    A package is paid at its price of this moment. Whoever has seen a price sends it along, as `amount` and `currency`
    or by the package's ETag in `If-Match`: where the price, or the package, is another by now, nothing is paid.
    """
    order = service.read_order(store_id, call.data, call.access.currencies)
    if order.package_id:
        call.match(order.package_version)
    elif call.request.header("if-match"):
        raise PreconditionFailed("If-Match names the version of a package, and this payment is for none")
    payment = service.create_payment(
        store_id, call.actor.user_id, order, call.data.payment_method, gateway_from_access(call.access)
    )
    return call.accepted(payment.id, payment.job_id)


@routes.get(ONE, "payments:read", reads=payments)
def get_payment(call: Call, store_id: UUID, payment_id: UUID) -> ReadPlan:
    return call.one(payments, call.visible | {"id": payment_id})


@routes.post(
    CONFIRMATIONS,
    "payments:write",
    find=_find_own,
    body=Confirmation,
    returns=payments,
    moves_money=True,
    slow=_payment,
    statuses=(202, 201),
)
def confirm_payment(call: Call, store_id: UUID, payment_id: UUID) -> Reply:
    job_id = service.confirm_payment(call.row, call.data)
    return call.accepted(payment_id, job_id)


@routes.get(REFUNDS, "payments:read", lists=refunds)
def list_refunds(call: Call, store_id: UUID, payment_id: UUID) -> ReadPlan:
    return call.list(refunds, {"store_id": store_id, "payment_id": payment_id, "user_id": call.only_user})


@routes.post(
    REFUNDS,
    "payments:write",
    role="manager",
    find=_find,
    shows=True,
    body=NewRefund,
    returns=refunds,
    idempotency="required",
    moves_money=True,
    slow=_refund,
    statuses=(202, 201),
)
def create_refund(call: Call, store_id: UUID, payment_id: UUID) -> Reply:
    refund = service.create_refund(call.row, call.actor.user_id, call.data)
    assert refund.job_id
    return call.accepted(refund.id, refund.job_id)


@routes.get(REFUND, "payments:read", reads=refunds)
def get_refund(call: Call, store_id: UUID, payment_id: UUID, refund_id: UUID) -> ReadPlan:
    scope = {"store_id": store_id, "payment_id": payment_id, "user_id": call.only_user, "id": refund_id}
    return call.one(refunds, scope)


@routes.get("/v1/me/payments", "payments:read", lists=payments)
def list_my_payments(call: Call) -> ReadPlan:
    bound_to = call.actor.store_id
    return call.list(payments, {"user_id": call.actor.user_id} | ({"store_id": bound_to} if bound_to else {}))


def _methods(call: Call, **one: UUID) -> Scope:
    return {"user_id": call.actor.user_id, "only_store": call.actor.store_id, **one}


def _method(call: Call) -> PaymentMethod:
    """With a token that is bound to a store, what charges everywhere is not to be changed."""
    bound_to = call.actor.store_id
    method = methods.get_method(call.actor.user_id, call.ids["payment_method_id"], bound_to)
    if bound_to and method.store_id is None:
        raise Forbidden(
            "the payment method is not this store's alone, and the token is bound to it", code="wrong_store"
        )
    return method


@routes.get(METHODS, "payments:read", lists=payment_methods)
def list_payment_methods(call: Call) -> ReadPlan:
    return call.list(payment_methods, _methods(call))


@routes.post(METHODS, "payments:write", unbound=True, body=NewPaymentMethod, returns=payment_methods)
def create_payment_method(call: Call) -> Reply:
    """Store a payment method

    By the token that the payment gateway gave for it. The first one is the default, which renewals are charged to.
    """
    method = methods.store_method(call.actor.user_id, call.data.token, is_default=call.data.is_default)
    return call.created(payment_methods, _methods(call, id=method.id))


@routes.get(METHOD, "payments:read", reads=payment_methods)
def get_payment_method(call: Call, payment_method_id: UUID) -> ReadPlan:
    return call.one(payment_methods, _methods(call, id=payment_method_id))


@routes.patch(METHOD, "payments:write", find=_method, body=PaymentMethodChange, returns=payment_methods)
def change_payment_method(call: Call, payment_method_id: UUID) -> Reply:
    """Make a payment method the default"""
    call.match(call.row.version)
    methods.make_default(call.row)
    return call.written(payment_methods, _methods(call, id=payment_method_id))


@routes.delete(METHOD, "payments:write", find=_method)
def delete_payment_method(call: Call, payment_method_id: UUID) -> Reply:
    """Forget a payment method, which is charged no more"""
    call.match(call.row.version)
    methods.delete_method(call.row)
    setups.detach_later(call.row)
    return no_content()
