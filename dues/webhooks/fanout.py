"""Who is told of an event: it becomes a delivery, with a job of its own, for each endpoint that wants it.

At first when it is written (dues/events.py asks for that), and again when somebody asks for a replay: of one delivery,
or of all events from a number or a time on.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field
from sqlalchemy import Row, text

from dues.clock import Moment
from dues.errors import Fault, NotFound, ValidationFailed
from dues.ids import new_id
from dues.jobs import Run, enqueue, kinds
from dues.postgres import db, fetch_row, transaction
from dues.webhooks.endpoints import get_endpoint, require_enabled
from dues.webhooks.models import Delivery, Endpoint

_BATCH = 200
# What is replayed makes way for what happens now.
_NOW, _REPLAY = 100, 200

_WANTED = """
    select e.seq, e.id as event_id, e.type as event_type, w.id as endpoint_id
    from events e join webhook_endpoints w on w.store_id = e.store_id
    where e.store_id = :store_id and e.seq > :after and e.seq <= :last
        and w.enabled and w.deleted_at is null and (w.events = '{*}' or e.type = any(w.events))
"""
_FAN_OUT = text(_WANTED + "order by e.seq, w.id")
# A replay that was interrupted finds here what it has asked for already.
_NEXT = text(
    _WANTED
    + """
        and w.id = :endpoint_id
        and not exists (select from webhook_deliveries d where d.store_id = e.store_id and d.endpoint_id = w.id
            and d.seq = e.seq and (d.asked_by = :asked_by or :missed and d.status = 'succeeded'))
    order by e.seq limit :batch
"""
)
_INSERT = """
    insert into webhook_deliveries(store_id, id, endpoint_id, seq, event_id, event_type, next_attempt_at, asked_by,
        job_id)
    values (%(store_id)s, %(id)s, %(endpoint_id)s, %(seq)s, %(event_id)s, %(event_type)s, now(), %(asked_by)s,
        %(job_id)s)
    returning id
"""
_LAST = "select last_seq from event_streams where store_id = %(store_id)s"
# A store's events are in the order of their times.
_BEFORE = """
    select seq from events where store_id = %(store_id)s and created_at < %(moment)s
    order by created_at desc, seq desc limit 1
"""


class NewReplay(Struct, forbid_unknown_fields=True):
    """Which events to send again: those with a number above `after_seq`, or those `from` (inclusive) `to` (exclusive;
    now if not said). With `missed` only those that the endpoint has not taken yet."""

    after_seq: Annotated[int, Meta(ge=0, le=2**53)] | UnsetType = UNSET
    moment_from: Moment | UnsetType = field(name="from", default=UNSET)
    moment_to: Moment | UnsetType = field(name="to", default=UNSET)
    missed: bool = False


class WebhookReplay(Struct):
    """The events from `first_seq` to `last_seq` are being sent again, as far as the endpoint wants them; the job tells
    how far that is."""

    endpoint_id: UUID
    first_seq: int
    last_seq: int
    missed: bool
    links: dict[str, str]


def fan_out(run: Run, store_id: UUID, first: int, last: int) -> None:
    """Have the events with these numbers delivered: exactly once, because it commits with the job's end."""
    with run.completion():
        span = {"store_id": store_id, "after": first - 1, "last": last}
        _deliver(store_id, db.session.execute(_FAN_OUT, span).all(), run.job_id, _NOW)


def replay_delivery(delivery: Delivery, requested_by: UUID) -> tuple[UUID, UUID]:
    """Send a delivery's event again. Part of the caller's transaction().

    Returns: the new delivery's id, and its job's.
    Raises: Conflict where the endpoint is disabled; NotFound where it was deleted.
    """
    require_enabled(get_endpoint(delivery.store_id, delivery.endpoint_id))
    event = delivery.seq, delivery.event_id, delivery.event_type
    return _deliver_one(delivery.store_id, delivery.endpoint_id, event, None, _NOW, requested_by)


def get_delivery(store_id: UUID, delivery_id: UUID) -> Delivery:
    """Raises: NotFound."""
    delivery = db.session.get(Delivery, (store_id, delivery_id))
    if delivery is None:
        raise NotFound("there is no such webhook delivery")
    return delivery


def request_replay(endpoint: Endpoint, requested_by: UUID, new: NewReplay) -> tuple[UUID, WebhookReplay]:
    """Have a range of events sent again by a job. Part of the caller's transaction().

    Returns: the job's id, and what it will do. Raises: ValidationFailed; Conflict where the endpoint is disabled.
    """
    _check(new)
    require_enabled(endpoint)
    store_id = endpoint.store_id
    last_seq = fetch_row(_LAST, {"store_id": store_id}) or (0,)
    last = last_seq[0] if new.moment_to is UNSET else _before(store_id, new.moment_to)
    after = _before(store_id, new.moment_from) if new.moment_from is not UNSET else new.after_seq
    assert after is not UNSET
    job_id = enqueue(
        kinds.WEBHOOK_REPLAY,
        {
            "store_id": str(store_id),
            "endpoint_id": str(endpoint.id),
            "after": after,
            "last": last,
            "missed": new.missed,
        },
        owner_id=requested_by,
        store_id=store_id,
    )
    links = {"endpoint": f"/v1/stores/{store_id}/webhook-endpoints/{endpoint.id}", "job": f"/v1/jobs/{job_id}"}
    return job_id, WebhookReplay(endpoint.id, after + 1, last, new.missed, links)


def _check(new: NewReplay) -> None:
    faults = []
    if (new.after_seq is UNSET) == (new.moment_from is UNSET):
        faults.append(Fault(code="required", detail="give either after_seq or from", pointer="#/after_seq"))
    if new.moment_to is not UNSET and new.moment_from is UNSET:
        faults.append(Fault(code="conflict", detail="goes with from", pointer="#/to"))
    if new.moment_to is not UNSET and new.moment_from is not UNSET and new.moment_from >= new.moment_to:
        faults.append(Fault(code="range", detail="must be later than from", pointer="#/to"))
    if faults:
        raise ValidationFailed.of_faults(faults)


def _before(store_id: UUID, moment: datetime) -> int:
    """The number of the store's last event before `moment`; 0 where there is none."""
    row = fetch_row(_BEFORE, {"store_id": store_id, "moment": moment})
    return int(row[0]) if row else 0


def replay(run: Run, store_id: UUID, endpoint_id: UUID, *, after: int, last: int, missed: bool) -> None:
    """Ask for the deliveries of a replay, some at a time. Raises: Canceled."""
    wanted = {"store_id": store_id, "endpoint_id": endpoint_id, "last": last, "missed": missed, "batch": _BATCH}
    position = after
    while position < last:
        run.check()
        with transaction():
            rows = db.session.execute(_NEXT, wanted | {"after": position, "asked_by": run.job_id}).all()
            _deliver(store_id, rows, run.job_id, _REPLAY)
        position = rows[-1].seq if len(rows) == _BATCH else last
        run.progress(position - after, last - after, "events")
    href = f"/v1/stores/{store_id}/webhook-deliveries?endpoint_id={endpoint_id}"
    run.complete({"href": href, "type": "application/json"})


def _deliver(store_id: UUID, rows: Iterable[Row[Any]], asked_by: UUID, priority: int) -> None:
    for row in rows:
        event = row.seq, row.event_id, row.event_type
        _deliver_one(store_id, row.endpoint_id, event, asked_by, priority, None)


def _deliver_one(
    store_id: UUID,
    endpoint_id: UUID,
    event: tuple[int, UUID, str],
    asked_by: UUID | None,
    priority: int,
    owner_id: UUID | None,
) -> tuple[UUID, UUID]:
    """A delivery and its job, which it is asked for by itself where nobody else is named. Returns: their ids."""
    delivery_id = new_id()
    job_id = enqueue(
        kinds.WEBHOOK_DELIVER,
        {"store_id": str(store_id), "delivery_id": str(delivery_id)},
        owner_id=owner_id,
        store_id=store_id,
        priority=priority,
    )
    seq, event_id, event_type = event
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
