"""Events: what has happened in a store, written down in the transaction that made it happen, for whoever listens.

    with transaction():
        package.archived_at = now()
        emit(package.store_id, "package.archived", packages, {"store_id": package.store_id, "id": package.id})

A slice tells its events here and does not know who listens; dues/webhooks reads the rows and passes them on.

A store's events are numbered 1, 2, 3, … without a gap: the next number stands in a row of `event_streams`, which is
locked from the moment it is taken until the commit, and a rollback gives it back. So it is taken last thing before the
commit, and a reader that has read up to a number will never find a smaller one later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Literal, get_args
from uuid import UUID

from dues.ids import new_id
from dues.jobs.kinds import WEBHOOK_FAN_OUT
from dues.jobs.outbox import JSON, enqueue
from dues.postgres import fetch_row, last_before_commit, run_later, unit_of_work
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads.compile import compile_one
from dues.reads.query import Query
from dues.reads.resource import Resource, Scope
from dues.reads.selection import Selection
from dues.reads.shape import bind, shape_of

EventType = Literal[
    "payment.created",
    "payment.requires_action",
    "payment.succeeded",
    "payment.failed",
    "payment.unknown",
    "payment.partially_refunded",
    "payment.refunded",
    "refund.created",
    "refund.succeeded",
    "refund.failed",
    "document.delivery_failed",
    "package.created",
    "package.updated",
    "package.archived",
    "report.succeeded",
    "report.failed",
    "report.canceled",
    "post.published",
    "post.updated",
    "post.deleted",
    "comment.created",
    "follow.created",
    "subscription.created",
    "subscription.activated",
    "subscription.renewed",
    "subscription.updated",
    "subscription.past_due",
    "subscription.paused",
    "subscription.resumed",
    "subscription.canceled",
    "subscription.ended",
    "subscription.trial_ending",
    "invoice.paid",
    "invoice.voided",
    "credit_note.created",
    "payment_method.updated",
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)

# A larger resource is told by its id and links alone. Receivers are promised less than 20 kB, envelope included.
MAX_DATA_BYTES = 19_000

_WRITE = """
    with stream as (
        insert into event_streams as s (store_id, last_seq) values (%(store_id)s, 1)
        on conflict (store_id) do update set last_seq = s.last_seq + 1
        returning s.last_seq, s.listened),
    written as (
        insert into events(store_id, seq, id, type, data, created_at)
        select %(store_id)s, stream.last_seq, %(event_id)s, %(event_type)s, item.document::json, clock_timestamp()
        from stream, ({read}) as item(document, version, snapshot)
        returning seq, octet_length(data::text) as size)
    select written.seq, written.size, stream.listened from written, stream
"""
_SHORTEN = """
    update events set data = item.document::json from ({read}) as item(document, version, snapshot)
    where events.store_id = %(store_id)s and events.seq = %(seq)s returning events.seq
"""
# The numbers of the events that were written, and of those that are too large.
_CHECK = """
    select coalesce(array_agg(seq), '{}'),
        coalesce(array_agg(seq) filter (where octet_length(data::text) > %(most)s), '{}')
    from events where store_id = %(store_id)s and seq >= %(first)s
"""
# Of a row that is gone.
_GIVEN = "select %(document)s::text, null, null"
_GIVEN_SHORT = (
    "select json_build_object('id', d.document -> 'id', 'links', d.document -> 'links')::text, null, null"
    " from (select %(document)s::json) d(document)"
)


@dataclass(frozen=True)
class Event:
    """One that is about to be written: `scope` names the row of `resource` that it is about. `document` is what it
    shows, where the row will be gone by then."""

    store_id: UUID
    event_type: EventType
    resource: Resource
    scope: Scope
    document: str | None = None


def emit(store_id: UUID, event_type: EventType, resource: Resource, scope: Scope) -> None:
    """Something has happened: part of the caller's transaction(), and written with its commit.

    The event shows the row that `scope` names as a GET would answer it then, with all that the transaction did to it.
    """
    unit_of_work().events.append(Event(store_id, event_type, resource, scope))


def emit_deletion(store_id: UUID, event_type: EventType, resource: Resource, scope: Scope) -> None:
    """The same of a row that the caller is about to delete: the event shows it as it is now."""
    shape = shape_of(resource, scope, Query(Selection(tuple(resource.fields))), None)
    row = fetch_row(compile_one(shape), bind(Query(Selection(())), scope, resource))
    assert row
    unit_of_work().events.append(Event(store_id, event_type, resource, scope, row[0]))


@last_before_commit
def _write_all(work: UnitOfWork) -> None:
    # In one order of stores, so that two transactions never wait for each other.
    events: list[Event] = sorted(work.events, key=lambda event: event.store_id)
    for store_id, group in groupby(events, key=lambda event: event.store_id):
        first, last, is_listened = _write_stream(store_id, list(group))
        if is_listened:
            args: dict[str, JSON] = {"store_id": str(store_id), "first": first, "last": last}
            enqueue(WEBHOOK_FAN_OUT, args, store_id=store_id)


def _write_stream(store_id: UUID, events: list[Event]) -> tuple[int, int, bool]:
    """Write one store's events, all in one message: its stream is locked for as long. Returns: the first and the last
    number, and whether anybody listens to the store."""
    for event in events[:-1]:
        run_later(*_writing(event))
    row = fetch_row(*_writing(events[-1]), hot=True)
    if row is None:
        raise _missing(events[-1])
    last, size, is_listened = row
    first = last - len(events) + 1
    large = [last] if size > MAX_DATA_BYTES else []
    if len(events) > 1:
        written, large = fetch_row(_CHECK, {"store_id": store_id, "first": first, "most": MAX_DATA_BYTES}) or (0, [])
        if len(written) != len(events):
            raise _missing(next(event for seq, event in enumerate(events, first) if seq not in written))
    for seq in large:
        _shorten(events[seq - first], seq)
    return first, last, is_listened


def _writing(event: Event) -> tuple[str, dict[str, object]]:
    """The statement that writes an event, and its values."""
    values = _values(event) | {"event_id": new_id(), "event_type": event.event_type}
    if event.document is not None:
        return _WRITE.format(read=_GIVEN), values
    return _statement(_WRITE, event.resource, tuple(sorted(event.scope)), tuple(event.resource.fields)), values


def _shorten(event: Event, seq: int) -> None:
    statement = _statement(_SHORTEN, event.resource, tuple(sorted(event.scope)), ("id", "links"))
    if event.document is not None:
        statement = _SHORTEN.format(read=_GIVEN_SHORT)
    fetch_row(statement, _values(event) | {"seq": seq})


def _values(event: Event) -> dict[str, object]:
    bound = bind(Query(Selection(())), event.scope, event.resource)
    return bound | {"store_id": event.store_id, "document": event.document}


def _missing(event: Event) -> LookupError:
    return LookupError(f"{event.event_type}: there is no such {event.resource.name.lower()}")


@lru_cache
def _statement(template: str, resource: Resource, scope: Sequence[str], fields: tuple[str, ...]) -> str:
    shape = shape_of(resource, dict.fromkeys(scope), Query(Selection(fields)), None)
    return template.format(read=compile_one(shape))
