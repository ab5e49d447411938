"""The place a subscription is written, with the log of its changes: many at once in one statement.

What may change into what is machine.py's to say. A change is written only if nobody else has changed the row since it
was read, which its version tells; a read that is followed by a change also locks it.
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

# What others are told of a change; the rest is said by the events of its payments.
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
    """From `before`, or nothing, to `after`, at a moment of the store's time. `actor_id`: who made it, None for what
    time or a gateway brought. `details` are small JSON for whoever reads the log."""

    before: Subscription | None
    after: Subscription
    kind: ChangeKind
    at: datetime
    actor_id: UUID | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def load(store_id: UUID, subscription_id: UUID) -> Subscription | None:
    """The subscription, locked for this transaction()."""
    unit_of_work()
    row = fetch_row(_GET, {"store_id": store_id, "id": subscription_id}, hot=True)
    return parse(row[0]) if row else None


def parse(document: str) -> Subscription:
    """A row as PostgreSQL writes it in JSON."""
    return msgspec.json.decode(document, type=Subscription)


def parse_all(documents: str) -> list[Subscription]:
    """Rows as PostgreSQL writes them in a JSON array."""
    return msgspec.json.decode(documents, type=list[Subscription])


def record(changes: Sequence[Change]) -> list[Subscription]:
    """Write changes down, each of another subscription: part of the caller's transaction(). Returns: what each has
    become, with its new version and what is due next.

    Raises: InvalidTransition where one was changed since it was read.
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
            tell(event_type, after)
        touch_subscription(change.before, after)
    return written


def tell(event_type: EventType, one: Subscription) -> None:
    """Have others told of a subscription as it stands at the commit."""
    emit(one.store_id, event_type, subscriptions, {"store_id": one.store_id, "id": one.id})


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
    """Answers that hold the subscription, or what its member may see by it, are out of date."""
    touch_ids(after.store_id, after.user_id)
    if _opens(after) != (_opens(before) if before else None):
        touch(f"user:{after.user_id}:sees")


def touch_ids(store_id: UUID, user_id: UUID) -> None:
    """Answers that hold a subscription of this user at this store are out of date."""
    touch(f"store:{store_id}:subscriptions", f"store:{store_id}:customers", f"user:{user_id}")


def _opens(one: Subscription) -> UUID | None:
    """The package whose members' posts the subscription opens; None while it gives no access."""
    return one.package_id if one.has_access else None
