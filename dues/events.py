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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from dues.ids import new_id
from dues.jobs.kinds import WEBHOOK_FAN_OUT
from dues.jobs.outbox import enqueue_selected
from dues.postgres import array_text, fetch_row, is_spread, last_before_commit, run_later, unit_of_work
from dues.postgres.connection import PARAMETER
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
    "payment.disputed",
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
    "import.succeeded",
    "import.failed",
    "import.canceled",
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

# All events of a unit of work in one store, whose numbers are taken at once. An event of a row that is not there has no
# data, which PostgreSQL refuses.
_WRITE = """
    with stream as (
        insert into event_streams as s (store_id, last_seq) values (%(store_id)s, %(count)s)
        on conflict (store_id) do update set last_seq = s.last_seq + %(count)s
        returning s.last_seq - %(count)s as before),
    -- Once the stream is locked: times are in the order of numbers.
    locked as materialized (select before, clock_timestamp() as moment from stream)
    insert into events(store_id, seq, id, type, data, created_at)
    select %(store_id)s, locked.before + told.place, told.event_id, told.event_type,
        case when octet_length(told.document) > %(most)s then json_build_object(
            'id', told.document::json -> 'id', 'links', told.document::json -> 'links')
        else told.document::json end,
        locked.moment
    from locked cross join ({told}) as told
"""
# Those whose rows are read by one statement; `place` counts from 1 among all.
_TOLD = """
    select happened.place, happened.event_id, happened.event_type, item.document
    from unnest({arrays}) as happened({names})
    left join lateral ({read}) as item(document, version, snapshot) on true
"""
# Of a row that is gone.
_GIVEN = "select happened.document, null, null"
# The last numbers of a store that somebody listens to.
_LISTENED = """
    select jsonb_build_object('store_id', store_id, 'first', last_seq - %(count)s + 1, 'last', last_seq)
    from event_streams where store_id = %(store_id)s and listened
"""


# The names of the ids in a scope, sorted.
Names: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """One that is about to be written. The ids of `scope` name the row of `resource` that it is about; a `store_id`
    among them is the event's own. `document` is
    what it shows, where the row will be gone by then."""

    store_id: UUID
    event_type: EventType
    resource: Resource
    scope: Scope
    document: str | None = None


def emit(store_id: UUID, event_type: EventType, resource: Resource, scope: Scope) -> None:
    """Something has happened: part of the caller's transaction(), and written with its commit.

    The event shows the row that the ids of `scope` name as a GET would answer it then, with all that the transaction
    did to it.
    """
    unit_of_work().events.append(Event(store_id, event_type, resource, scope))


def emit_deletion(store_id: UUID, event_type: EventType, resource: Resource, scope: Scope) -> None:
    """The same of a row that the caller is about to delete: the event shows it as it is now."""
    event = Event(store_id, event_type, resource, scope)
    unit_of_work().events.append(replace(event, document=_read(event)))


def _read(event: Event) -> str:
    """What the event shows, as it is now."""
    shape = shape_of(event.resource, event.scope, Query(Selection(tuple(event.resource.fields))), None)
    row = fetch_row(compile_one(shape), bind(Query(Selection(())), event.scope, event.resource))
    assert row
    return str(row[0])


@last_before_commit
def _write_all(work: UnitOfWork) -> None:
    """All goes out with the COMMIT, in one message: streams are locked for no trip between here and PostgreSQL."""
    # In one order of stores, so that two transactions never wait for each other.
    events: list[Event] = sorted(work.events, key=lambda event: event.store_id)
    for store_id, group in groupby(events, key=lambda event: event.store_id):
        of_store = list(group)
        if is_spread():
            # Citus cannot read the rows in the statement that numbers their events.
            of_store = [replace(event, document=event.document or _read(event)) for event in of_store]
        run_later(*_writing(store_id, of_store))
        enqueue_selected(WEBHOOK_FAN_OUT, _LISTENED, {"count": len(of_store)}, store_id=store_id)


def _kind(event: Event) -> tuple[Resource | None, Names]:
    """Events of one kind are read by one statement."""
    return (event.resource, tuple(sorted(event.scope))) if event.document is None else (None, ("document",))


def _writing(store_id: UUID, events: Sequence[Event]) -> tuple[str, dict[str, object]]:
    """The statement that writes a store's events, and its values."""
    alike: dict[tuple[Resource | None, Names], list[tuple[str, str, Event]]] = {}
    for place, event in enumerate(events, 1):
        alike.setdefault(_kind(event), []).append((str(place), str(new_id()), event))
    values: dict[str, object] = {"store_id": store_id, "count": len(events), "most": MAX_DATA_BYTES}
    for number, ((resource, names), told) in enumerate(alike.items()):
        values[f"place{number}"] = array_text(place for place, _, _ in told)
        values[f"event_id{number}"] = array_text(event_id for _, event_id, _ in told)
        values[f"event_type{number}"] = array_text(event.event_type for _, _, event in told)
        if resource is None:
            values[f"document{number}"] = [event.document for _, _, event in told]
            continue
        for name in _own(names):
            values[f"{name}{number}"] = array_text(str(event.scope[name] or "null") for _, _, event in told)
    return _statement(tuple(alike)), values


@lru_cache
def _statement(kinds: Sequence[tuple[Resource | None, Names]]) -> str:
    return _WRITE.format(told=" union all ".join(_told(number, *kind) for number, kind in enumerate(kinds)))


def _told(number: int, resource: Resource | None, names: Names) -> str:
    types = {"place": "int", "event_id": "uuid", "event_type": "text"} | dict.fromkeys(_own(names), "uuid")
    if resource is None:
        read, types["document"] = _GIVEN, "text"
    else:
        one = compile_one(shape_of(resource, dict.fromkeys(names), Query(Selection(tuple(resource.fields))), None))
        # What a single read is given as values, here each event gives.
        read = PARAMETER.sub(lambda found: f"happened.{found[1]}" if found[1] in types else found[0], one)
    arrays = ", ".join(f"%({name}{number})s::{type_}[]" for name, type_ in types.items())
    return _TOLD.format(arrays=arrays, names=", ".join(types), read=read)


def _own(names: Names) -> Names:
    """The ids that each event gives for itself. The store is the same for all: said as a value, it also tells a
    database that is spread over several servers where to look."""
    return tuple(name for name in names if name != "store_id")
