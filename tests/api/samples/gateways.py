"""What the routes of gateways are tried with."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dues.ids import new_id
from tests.api.samples.declared import Row, Samples, Target

if TYPE_CHECKING:
    from tests.api.world import World


def _account(world: "World", **columns: Any) -> Row:
    """The store's account at Stripe, whose secrets nobody needs here."""
    row_id = new_id()
    defaults = {"store_id": world.store.id, "id": row_id, "type": "stripe", "reference": f"acct_{row_id.hex}"}
    secrets = {"secret_key": b"-", "webhook_secret": b"-"}
    return world.make.insert("gateway_accounts", defaults | secrets | columns)


def _setup(target: Target) -> Row:
    columns = {
        "store_id": target.world.store.id,
        "id": new_id(),
        "user_id": target.world.customer.id,
        "account_id": _account(target.world, replaced_at=datetime.now(UTC)).id,
        "status": "requires_action",
        "gateway_ref": "seti_1",
    }
    return target.world.make.insert("payment_setups", columns)


def _new_setup(world: "World", caller: str) -> dict[str, Any]:
    """The store is charged by Stripe from now on, until it chooses otherwise."""
    current = "select id from gateway_accounts where store_id = %(store)s and replaced_at is null"
    if not world.make.rows(current, {"store": world.store.id}):
        _account(world)
    return {"is_default": True}


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/stores/{store_id}/payment-setups           payments:write 401 202 202 202 202 202 403 403
GET    /v1/stores/{store_id}/payment-setups/{setup_id} payments:read  401 404 200 404 404 404 403 403
POST   /v1/stores/{store_id}/payment-setups/{setup_id}/confirmations payments:write 401 404 202 404 404 404 403 403
GET    /v1/stores/{store_id}/gateway                  catalog:read   401 403 403 403 403 200 403 403
PUT    /v1/stores/{store_id}/gateway                  catalog:write  401 403 403 403 403 200 403 403
POST   /v1/gateways/stripe/{stripe_store_id}          -              400 400 400 400 400 400 400 400
""",
    bodies={
        "PUT /v1/stores/{store_id}/gateway": {"type": "sandbox"},
        "POST /v1/stores/{store_id}/payment-setups": _new_setup,
    },
    reads=[
        "/v1/stores/{store_id}/gateway",
        "/v1/stores/{store_id}/payment-setups/{setup_id}",
    ],
    # Each confirmation is of another setup than the one that is read.
    finished=["/v1/stores/{store_id}/payment-setups/{setup_id}"],
    rows={"setup_id": _setup, "stripe_store_id": lambda target: target.world.store},
)
