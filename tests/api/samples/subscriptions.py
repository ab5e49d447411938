"""What the routes of subscriptions are tried with."""

from typing import TYPE_CHECKING, Any

from tests.api.samples.declared import Row, Samples, Target

if TYPE_CHECKING:
    from tests.api.world import World


def _subscription(target: Target) -> Row:
    world = target.world
    world.make.rows("update subscriptions set status = 'canceled', ended_at = now() where status <> 'canceled'")
    return world.make.subscription(world.store, world.customer)


def _new_subscription(world: "World", caller: str) -> dict[str, Any]:
    return {"package_id": str(world.package.id), "payment_method": "sandbox_ok"}


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/me/subscriptions                               subscriptions:read  401 200 200 200 200 200 403 200
GET    /v1/stores/{store_id}/subscriptions                subscriptions:read  401 200 200 200 200 200 403 403
POST   /v1/stores/{store_id}/subscriptions                subscriptions:write 401 202 202 202 202 202 403 403
GET    /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:read  401 404 200 200 200 200 403 403
PATCH  /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:write 401 404 200 403 200 200 403 403
DELETE /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:write 401 404 200 403 200 200 403 403
""",
    bodies={
        "POST /v1/stores/{store_id}/subscriptions": _new_subscription,
        "PATCH /v1/stores/{store_id}/subscriptions/{subscription_id}": {"cancel_at_period_end": True},
    },
    reads=[
        "/v1/me/subscriptions?include=user,package,payments,invoices",
        "/v1/stores/{store_id}/subscriptions?include=user,package,payments,invoices",
        "/v1/stores/{store_id}/subscriptions?cursor=&sort=current_period_end",
        "/v1/stores/{store_id}/subscriptions/{subscription_id}?include=user,package,payments,invoices",
    ],
    rows={"subscription_id": _subscription},
)
