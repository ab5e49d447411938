"""Events become deliveries: one, with a job of its own, for each endpoint that wants the event.

That is done when an event is written (dues/events.py asks for it), and again for a replay (replays.py).
"""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from dues.ids import derived_id, new_id
from dues.jobs import Run, enqueue, kinds
from dues.jobs.outbox import JSON
from dues.postgres import db, fetch_row

# The priority of events that have just happened.
NOW = 100
# How many events one job makes deliveries for, up to twenty for each event.
MOST_EVENTS = 5

WANTED = """
    select e.seq, e.id as event_id, e.type as event_type, w.id as endpoint_id
    from events e join webhook_endpoints w on w.store_id = e.store_id
    where e.store_id = :store_id and e.seq > :after and e.seq <= :last
        and w.enabled and w.deleted_at is null and (w.events = '{*}' or e.type = any(w.events))
"""
_FAN_OUT = text(WANTED + "order by e.seq, w.id")
_INSERT = """
    insert into webhook_deliveries(store_id, id, endpoint_id, seq, event_id, event_type, next_attempt_at, asked_by,
        job_id)
    values (%(store_id)s, %(id)s, %(endpoint_id)s, %(seq)s, %(event_id)s, %(event_type)s, now(), %(asked_by)s,
        %(job_id)s)
    returning id
"""


def fan_out(run: Run, store_id: UUID, first: int, last: int) -> None:
    """Have the events with these numbers delivered: exactly once, because it commits with the job's end. Of many events
    the rest is another job's, so that other stores' have their turn in between."""
    end = min(last, first + MOST_EVENTS - 1)
    with run.completion():
        span = {"store_id": store_id, "after": first - 1, "last": end}
        deliver_all(store_id, db.session.execute(_FAN_OUT, span).all(), run.job_id, NOW)
        if end < last:
            rest: dict[str, JSON] = {"store_id": str(store_id), "first": end + 1, "last": last}
            enqueue(kinds.WEBHOOK_FAN_OUT, rest, store_id=store_id)


def deliver_all(store_id: UUID, rows: Iterable[Row[Any]], asked_by: UUID, priority: int) -> None:
    """A delivery for each row of WANTED. Part of the caller's transaction()."""
    for row in rows:
        event = row.seq, row.event_id, row.event_type
        deliver_one(store_id, row.endpoint_id, event, asked_by, priority, None)


def deliver_one(
    store_id: UUID,
    endpoint_id: UUID,
    event: tuple[int, UUID, str],
    asked_by: UUID | None,
    priority: int,
    owner_id: UUID | None,
) -> tuple[UUID, UUID]:
    """A delivery and its job, which it is asked for by itself where nobody else is named. Returns: their ids."""
    seq, event_id, event_type = event
    # When the same job asks for it twice, it is the same delivery: the id is unique in every form of the table.
    delivery_id = derived_id(asked_by, seq, endpoint_id) if asked_by else new_id()
    job_id = enqueue(
        kinds.WEBHOOK_DELIVER,
        {"store_id": str(store_id), "delivery_id": str(delivery_id)},
        owner_id=owner_id,
        store_id=store_id,
        priority=priority,
    )
    values = {
        "store_id": store_id,
        "id": delivery_id,
        "endpoint_id": endpoint_id,
        "seq": seq,
        "event_id": event_id,
        "event_type": event_type,
        "asked_by": asked_by or job_id,
        "job_id": job_id,
    }
    fetch_row(_INSERT, values)
    return delivery_id, job_id
