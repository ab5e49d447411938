"""What charges in a store: its owner's choice, the setup of payers' methods there, and the hooks of gateways."""

from uuid import UUID

from api.auth import PUBLIC
from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.payments import accounts, hooks, setups
from dues.payments.accounts import GatewayChoice
from dues.payments.gateway_reads import gateways, payment_setups
from dues.payments.models import PaymentSetup
from dues.payments.setups import NewPaymentSetup
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes(
    "gateways",
    examples={
        "Gateway.type": "stripe",
        "secret_key_last4": "7890",
        "webhook_secret_last4": "7890",
        "publishable_key": "pk_live_EXAMPLE1234567890",
    },
    bodies={
        "GatewayChoice": {
            "the sandbox": {"type": "sandbox"},
            "Stripe": {
                "type": "stripe",
                "secret_key": "sk_live_EXAMPLE1234567890",
                "webhook_secret": "whsec_EXAMPLE1234567890",
                "publishable_key": "pk_live_EXAMPLE1234567890",
            },
        },
    },
)
GATEWAY = "/v1/stores/{store_id}/gateway"
SETUPS = "/v1/stores/{store_id}/payment-setups"
SETUP = SETUPS + "/{setup_id}"

_SIGNATURE = {
    "name": "Stripe-Signature",
    "in": "header",
    "description": "when, and by whom, the body was signed: at most five minutes ago",
    "schema": {"type": "string"},
}


def _check(call: Call) -> str | None:
    call.access.require_role("owner")
    return accounts.check_gateway(call.ids["store_id"], call.data)


def _setup(call: Call, setup_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "user_id": call.actor.user_id, "id": setup_id}


def _find_setup(call: Call) -> PaymentSetup:
    return setups.get_setup(call.ids["store_id"], call.ids["setup_id"], call.actor.user_id)


@routes.get(GATEWAY, "catalog:read", role="owner", reads=gateways)
def get_gateway(call: Call, store_id: UUID) -> ReadPlan:
    """What charges in a store"""
    return call.one(gateways, {"id": store_id})


@routes.put(
    GATEWAY,
    "catalog:write",
    role="owner",
    prepare=_check,
    body=GatewayChoice,
    returns=gateways,
    limit="payments",
)
def choose_gateway(call: Call, store_id: UUID) -> Reply:
    """Choose what charges in a store

    Stripe is asked whether the key is good. Its secrets are kept encrypted and are never shown again. Cards that payers
    have stored at another account are not charged any more; what was charged through it can still be refunded.
    """
    accounts.choose_gateway(store_id, call.data, call.prepared)
    return call.written(gateways, {"id": store_id})


@routes.post(
    SETUPS,
    "payments:write",
    body=NewPaymentSetup,
    returns=payment_setups,
    limit="payments",
    slow=_setup,
    statuses=(202, 201),
)
def create_payment_setup(call: Call, store_id: UUID) -> Reply:
    """Store a payment method at a store's own gateway

    Once its job is done, `next_action` holds what the gateway's own script needs in the payer's client.
    """
    setup = setups.create_setup(store_id, call.actor.user_id, call.data)
    assert setup.job_id
    return call.accepted(setup.id, setup.job_id)


@routes.get(SETUP, "payments:read", reads=payment_setups)
def get_payment_setup(call: Call, store_id: UUID, setup_id: UUID) -> ReadPlan:
    return call.one(payment_setups, _setup(call, setup_id))


@routes.post(
    SETUP + "/confirmations",
    "payments:write",
    find=_find_setup,
    returns=payment_setups,
    slow=_setup,
    statuses=(202, 201),
)
def confirm_payment_setup(call: Call, store_id: UUID, setup_id: UUID) -> Reply:
    """The payer has entered their card: the gateway is asked"""
    return call.accepted(setup_id, setups.confirm_setup(call.row))


@routes.post(
    "/v1/gateways/stripe/{stripe_store_id}",
    PUBLIC,
    idempotency="no",
    statuses=(204,),
    parameters=[_SIGNATURE],
    responses={421: {}},
)
def receive_stripe(call: Call, stripe_store_id: UUID) -> Reply:
    """Where Stripe sends a store's webhooks

    Each is verified by its signature. It is taken as a hint only: Stripe is asked what is true. Of a store that takes
    none, or that does not exist, the answer is that of a wrong signature. While a store moves to another server, and
    afterwards, hooks are refused: Stripe sends them again.
    """
    hooks.receive_stripe(stripe_store_id, call.raw, call.request.header("stripe-signature") or "")
    return no_content()
