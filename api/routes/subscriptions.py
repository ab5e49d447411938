"""Subscriptions, which members keep for years: begun, changed, paused, canceled; staff see the store's, others their
own."""

from typing import Any
from uuid import UUID

import msgspec

from api.reply import Reply, json_reply
from api.request import parameters_of
from api.routing import Call, Routes
from dues.billing import manage
from dues.billing.accounts import lock_subscription
from dues.billing.bills import job_of_payment
from dues.billing.changes import SubscriptionPreview
from dues.billing.manage import SubscriptionChange, SubscriptionEnding
from dues.billing.reads import subscriptions
from dues.billing.subscribe import NewSubscription, subscribe
from dues.errors import Forbidden, InvalidParameter
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.subscriptions.subscription import Subscription

routes = Routes(
    "subscriptions",
    examples={
        "cancel_comment": None,
        "cancel_reason": None,
        "Subscription.status": "active",
        "SubscriptionPreview.lines": [
            {
                "description": "Unused time: Silver",
                "amount": -950,
                "quantity": 1,
                "period": {"start": "2026-11-20T14:39:00.123456+00:00", "end": "2026-12-05T00:00:00.000000+00:00"},
            },
            {
                "description": "Gold",
                "amount": 1900,
                "quantity": 1,
                "period": {"start": "2026-11-20T14:39:00.123456+00:00", "end": "2026-12-05T00:00:00.000000+00:00"},
            },
        ],
        "SubscriptionPreview.subtotal": 950,
        "SubscriptionPreview.due": 950,
        "SubscriptionPreview.next_period": {
            "start": "2026-11-20T14:39:00.123456+00:00",
            "end": "2026-12-05T00:00:00.000000+00:00",
        },
    },
    bodies={
        "NewSubscription": {
            "a package": {"package_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "payment_method": "sandbox_ok"},
            "at the price that was seen": {
                "package_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20",
                "amount": 1900,
                "currency": "EUR",
            },
        },
        "SubscriptionChange": {
            "cancel at the period's end": {"cancel_at_period_end": True, "reason": "Moving away"},
            "another package now": {"package_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "when": "now"},
            "pause": {"paused": True, "resumes_at": "2027-03-01T00:00:00Z"},
            "another card": {"payment_method": "sandbox_ok"},
        },
        "SubscriptionEnding": {"with a refund": {"refund": "unused"}},
    },
)
LIST = "/v1/stores/{store_id}/subscriptions"
ONE = LIST + "/{subscription_id}"

_PREVIEW = {
    "name": "preview",
    "in": "query",
    "description": "Only show what a change of package would cost: nothing is written.",
    "schema": {"type": "boolean", "default": False},
}


def _subscription(call: Call, subscription_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": subscription_id}


def _find(call: Call) -> Subscription:
    """The subscription, for its member or a manager. Raises: NotFound, Forbidden."""
    one = lock_subscription(call.ids["store_id"], call.ids["subscription_id"], call.only_user)
    if one.user_id != call.actor.user_id:
        call.access.require_role("manager")
    return one


@routes.get(LIST, "subscriptions:read", lists=subscriptions)
def list_subscriptions(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(subscriptions, call.visible)


@routes.post(
    LIST,
    "subscriptions:write",
    body=NewSubscription,
    returns=subscriptions,
    idempotency="required",
    moves_money=True,
    limit="payments",
    slow=_subscription,
    statuses=(202, 201),
)
def create_subscription(call: Call, store_id: UUID) -> Reply:
    """Subscribe to a package

    Where something is to be paid first, a job charges it (202); a trial, or what costs nothing, begins at once (201).
    """
    one = subscribe(store_id, call.actor.user_id, call.data, call.access.currencies, only_in=call.actor.store_id)
    if one.bill is None or one.latest_payment_id is None:
        return call.created(subscriptions, _subscription(call, one.id))
    return call.accepted(one.id, job_of_payment(one))


@routes.get(ONE, "subscriptions:read", reads=subscriptions)
def get_subscription(call: Call, store_id: UUID, subscription_id: UUID) -> ReadPlan:
    return call.one(subscriptions, call.visible | {"id": subscription_id})


@routes.patch(
    ONE,
    "subscriptions:write",
    find=_find,
    body=SubscriptionChange,
    moves_money=True,
    returns=subscriptions,
    parameters=(_PREVIEW,),
    also=SubscriptionPreview,
)
def change_subscription(call: Call, store_id: UUID, subscription_id: UUID) -> Reply:
    """Change, cancel, pause or resume a subscription, or what it is charged to

    Another package that costs money now holds once that is paid: `pending_package_id` until then, `links.job` is the
    charge. With `preview=true` the answer is what it would cost.
    """
    if _wants_preview(call):
        shown = manage.preview_change(call.row, call.data, call.access.currencies)
        return json_reply(msgspec.to_builtins(shown))
    call.match(call.row.version)
    manage.change_subscription(
        call.row, call.data, call.actor.user_id, call.access.currencies, only_in=call.actor.store_id
    )
    return call.written(subscriptions, _subscription(call, subscription_id))


def _wants_preview(call: Call) -> bool:
    values = [value for name, value in parameters_of(call.request.query) if name == "preview"] or ["false"]
    if values not in (["true"], ["false"]):
        raise InvalidParameter.of("preview", "is not true or false")
    return values == ["true"]


@routes.delete(
    ONE,
    "subscriptions:write",
    find=_find,
    body=SubscriptionEnding,
    moves_money=True,
    optional_body=True,
    returns=subscriptions,
    statuses=(200,),
)
def end_subscription(call: Call, store_id: UUID, subscription_id: UUID) -> Reply:
    """End a subscription now

    No money moves, unless a manager has the unused share refunded.
    """
    call.match(call.row.version)
    ending: Any = call.data or SubscriptionEnding()
    if ending.refund != "none" and not call.access.has_role("manager"):
        raise Forbidden("refunds are kept for a store's managers")
    manage.end_subscription(call.row, ending, call.actor.user_id)
    return call.written(subscriptions, _subscription(call, subscription_id))


@routes.get("/v1/me/subscriptions", "subscriptions:read", lists=subscriptions)
def list_my_subscriptions(call: Call) -> ReadPlan:
    bound_to = call.actor.store_id
    return call.list(subscriptions, {"user_id": call.actor.user_id} | ({"store_id": bound_to} if bound_to else {}))
