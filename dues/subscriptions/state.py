"""The only place where subscriptions are written, together with the log of their changes: many at once in one
statement.

machine.py decides which changes are allowed. A change is written only if the row is unchanged since it was read, which
its version shows; reading with `load()` also locks the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from dues.errors import InvalidTransition
from dues.events import EventType, emit
from dues.ids import new_id
from dues.postgres import fetch_row, unit_of_work
from dues.reads.tags import touch
from dues.subscriptions.reads import subscriptions
from dues.subscriptions.subscription import Subscription
from dues.subscriptions.timeline import next_action, next_charge

ChangeKind = Literal[
    "created",
    "imported",
    "trial_started",
    "charging",
    "activated",
    "renewed",
    "paid",
    "past_due",
    "retried",
    "declined",
    "recovered",
    "access_ended",
    "given_up",
    "change_requested",
    "change_scheduled",
    "change_withdrawn",
    "changed",
    "cancel_scheduled",
    "cancel_withdrawn",
    "pause_scheduled",
    "pause_withdrawn",
    "paused",
    "resume_scheduled",
    "resume_requested",
    "resumed",
    "method_changed",
    "payer_asked",
    "reminded",
    "ended",
    "expired",
]

# The event that each change emits. The other changes are covered by the events of their payments.
_EVENTS: Mapping[ChangeKind, EventType] = {
    "created": "subscription.created",
    "imported": "subscription.created",
    "trial_started": "subscription.updated",
    "activated": "subscription.activated",
    "renewed": "subscription.renewed",
    "past_due": "subscription.past_due",
    "recovered": "subscription.activated",
    "access_ended": "subscription.updated",
    "change_scheduled": "subscription.updated",
    "change_withdrawn": "subscription.updated",
    "changed": "subscription.updated",
    "cancel_scheduled": "subscription.canceled",
    "cancel_withdrawn": "subscription.updated",
    "pause_scheduled": "subscription.updated",
    "pause_withdrawn": "subscription.updated",
    "paused": "subscription.paused",
    "resume_scheduled": "subscription.updated",
    "resumed": "subscription.resumed",
    "method_changed": "subscription.updated",
    "ended": "subscription.ended",
    "expired": "subscription.ended",
}

_COLUMNS = tuple(field.name for field in msgspec.structs.fields(Subscription))
_NAMES = ", ".join(f'"{name}"' for name in _COLUMNS)
_NEW_VALUES = ", ".join(f'r."{name}"' for name in _COLUMNS)

_RECORD = f"""
    with row as (select * from jsonb_populate_recordset(null::subscriptions, %(rows)s::jsonb)),
    inserted as (
        insert into subscriptions({_NAMES}) select {_NEW_VALUES} from row r where r.version = 1 returning 1),
    updated as (
        update subscriptions s set ({_NAMES}) = row({_NEW_VALUES}) from row r
        where r.version > 1 and s.store_id = r.store_id and s.id = r.id and s.version = r.version - 1 returning 1),
    logged as (
        insert into subscription_changes
        select * from jsonb_populate_recordset(null::subscription_changes, %(log)s::jsonb))
    select (select count(*) from inserted) + (select count(*) from updated)
"""
_GET = """
    select to_jsonb(s)::text from subscriptions s where s.store_id = %(store_id)s and s.id = %(id)s for update
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change from `before` (None for a new subscription) to `after`, at a moment of the store's time. `actor_id` is
    the user who made it; None if it was caused by time or by a gateway. `details` is small JSON for readers of the
    log."""

    before: Subscription | None
    after: Subscription
    kind: ChangeKind
    at: datetime
    actor_id: UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def load(store_id: UUID, subscription_id: UUID) -> Subscription | None:
    """The subscription, locked for this transaction(); None if there is none."""
    unit_of_work()
    row = fetch_row(_GET, {"store_id": store_id, "id": subscription_id}, hot=True)
    return parse(row[0]) if row else None


def parse(document: str) -> Subscription:
    """A subscription from its row, as PostgreSQL writes it in JSON."""
    return msgspec.json.decode(document, type=Subscription)


def parse_all(documents: str) -> list[Subscription]:
    """Subscriptions from their rows, as PostgreSQL writes them in a JSON array."""
    return msgspec.json.decode(documents, type=list[Subscription])


def record(changes: Sequence[Change]) -> list[Subscription]:
    """Write changes, each of a different subscription. Part of the caller's transaction(). Returns: the changed
    subscriptions, with their new versions and their next due actions.

    Raises: InvalidTransition if one was changed since it was read.
    """
    written = [_ready(change) for change in changes]
    if not written:
        return []
    values = {
        "rows": msgspec.json.encode(written).decode(),
        "log": msgspec.json.encode([_entry(change) for change in changes]).decode(),
    }
    unit_of_work()
    row = fetch_row(_RECORD, values, hot=True)
    if row is None or row[0] != len(written):
        raise InvalidTransition("the subscription was changed by somebody else at the same time")
    for change, after in zip(changes, written, strict=True):
        if event_type := _EVENTS.get(change.kind):
            emit_event(event_type, after)
        touch_subscription(change.before, after)
    return written


def emit_event(event_type: EventType, subscription: Subscription) -> None:
    """Emit an event that shows the subscription as it is at the commit."""
    emit(subscription.store_id, event_type, subscriptions, {"store_id": subscription.store_id, "id": subscription.id})


def _ready(change: Change) -> Subscription:
    after = change.after
    due, charge = next_action(after), next_charge(after)
    return replace(
        after,
        version=change.before.version + 1 if change.before else 1,
        updated_at=change.at,
        next_action_at=due[0] if due else None,
        next_charge_at=charge[0] if charge else None,
        next_charge_amount=charge[1] if charge else None,
    )


def _entry(change: Change) -> dict[str, Any]:
    before, after = change.before, change.after
    return {
        "store_id": after.store_id,
        "subscription_id": after.id,
        "id": new_id(),
        "kind": change.kind,
        "actor_id": change.actor_id,
        "from_status": before.status if before else None,
        "to_status": after.status,
        "details": change.details,
        "created_at": change.at,
        "currency": after.currency,
        "mrr_before": before.mrr if before else 0,
        "mrr": after.mrr,
        "committed_before": before.committed_mrr if before else 0,
        "committed": after.committed_mrr,
    }


def touch_subscription(before: Subscription | None, after: Subscription) -> None:
    """Invalidate cached answers that show the subscription, or what its member may see because of it."""
    touch_ids(after.store_id, after.user_id)
    if _opens(after) != (_opens(before) if before else None):
        touch(f"user:{after.user_id}:sees")


def touch_ids(store_id: UUID, user_id: UUID) -> None:
    """Invalidate cached answers that show a subscription of this user at this store."""
    touch(f"store:{store_id}:subscriptions", f"store:{store_id}:customers", f"user:{user_id}")


def _opens(subscription: Subscription) -> UUID | None:
    """The package whose members-only posts the subscription gives access to; None while it gives no access."""
    return subscription.package_id if subscription.has_access else None
