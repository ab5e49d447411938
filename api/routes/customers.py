"""Who buys at a store: staff see all, others themselves."""

from uuid import UUID

from api.routing import Call, Routes
from dues.billing.customers import balance_entries, customers, timelines
from dues.errors import NotFound
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes("customers")
LIST = "/v1/stores/{store_id}/customers"
ONE = LIST + "/{user_id}"


def _customer(call: Call, user_id: UUID) -> Scope:
    """Raises: NotFound for another's row, as if there were none."""
    if not call.access.is_staff and user_id != call.actor.user_id:
        raise NotFound("there is no such customer")
    return {"store_id": call.ids["store_id"], "user_id": user_id}


@routes.get(LIST, "payments:read", lists=customers)
def list_customers(call: Call, store_id: UUID) -> ReadPlan:
    own = {} if call.access.is_staff else {"user_id": call.actor.user_id}
    return call.list(customers, {"store_id": store_id} | own)


@routes.get(ONE, "payments:read", reads=customers)
def get_customer(call: Call, store_id: UUID, user_id: UUID) -> ReadPlan:
    return call.one(customers, _customer(call, user_id))


@routes.get(f"{ONE}/balance", "payments:read", lists=balance_entries)
def list_balance_entries(call: Call, store_id: UUID, user_id: UUID) -> ReadPlan:
    """What was credited to a customer's balance, and what has used it"""
    return call.list(balance_entries, _customer(call, user_id))


@routes.get(f"{ONE}/timeline", "payments:read", reads=timelines)
def get_timeline(call: Call, store_id: UUID, user_id: UUID) -> ReadPlan:
    """What has happened to a customer, newest first

    Payments, refunds, changes of subscriptions, invoices, credit notes and mails with documents, at most 200.
    """
    return call.one(timelines, _customer(call, user_id))
