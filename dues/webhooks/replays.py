"""Replays: events are sent to an endpoint again, one of them or all from a number or a time on.

A replay makes its deliveries as the endpoint takes them: it goes on when fewer than MOST_PENDING deliveries to the
endpoint are pending, of whatever origin. So one request never becomes more deliveries at once than that, however many
events there are, and a receiver that is away is not sent ever more to.
"""

from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field
from sqlalchemy import text

from dues.clock import Moment
from dues.errors import Conflict, Fault, NotFound, ValidationFailed
from dues.jobs import Retry, Run, enqueue, kinds
from dues.postgres import db, fetch_row, is_spread, transaction
from dues.postgres.constraints import take_turns
from dues.webhooks.endpoints import get_endpoint, require_enabled
from dues.webhooks.fanout import NOW, WANTED, deliver_all, deliver_one
from dues.webhooks.models import Delivery, Endpoint

# Most deliveries to an endpoint that are pending when a replay makes more.
MOST_PENDING = 200
# Most replays of a store that are not over. Of an endpoint there is one at a time.
MOST_UNFINISHED = 5
# Lower than that of new events, which go first.
_REPLAY = 200
# How soon a replay looks again whether its endpoint has taken some.
_AGAIN_S = 5.0

# A replay that was interrupted, or waits, finds here what it has asked for already.
_NEXT = " and w.id = :endpoint_id and {is_new} order by e.seq limit :batch"
_IS_ASKED_FOR = "(d.asked_by = :asked_by or :missed and d.status = 'succeeded')"
_NEXT_AT_ONCE = text(
    WANTED
    + _NEXT.format(
        is_new=f"""not exists (
            select from webhook_deliveries d where d.store_id = e.store_id and d.endpoint_id = w.id and d.seq = e.seq
                and {_IS_ASKED_FOR})"""
    )
)
# Where the database is spread, deliveries are on another server than events, and read before them.
_NEXT_APART = text(
    WANTED
    + _NEXT.format(
        is_new=f"""e.seq <> all(array(
            select d.seq from webhook_deliveries d where d.store_id = :store_id and d.endpoint_id = :endpoint_id
                and d.seq > :after and d.seq <= :last and {_IS_ASKED_FOR}))"""
    )
)
_LAST = "select last_seq from event_streams where store_id = %(store_id)s"
# A store's events are in the order of their times.
_BEFORE = """
    select seq from events where store_id = %(store_id)s and created_at < %(moment)s
    order by created_at desc, seq desc limit 1
"""
_UNFINISHED = f"""
    select count(*), coalesce(bool_or(w.id = %(endpoint_id)s), false)
    from webhook_endpoints w join jobs j on j.kind = '{kinds.WEBHOOK_REPLAY.name}' and j.dedupe_key = w.id::text
        and j.status in ('queued', 'running')
    where w.store_id = %(store_id)s
"""
_PENDING = """
    select count(*) from (
        select from webhook_deliveries
        where store_id = %(store_id)s and endpoint_id = %(endpoint_id)s and status = 'pending' limit %(most)s) pending
"""
_SAME_PENDING = """
    select from webhook_deliveries
    where store_id = %(store_id)s and endpoint_id = %(endpoint_id)s and seq = %(seq)s and status = 'pending' limit 1
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


def replay_delivery(delivery: Delivery, requested_by: UUID) -> tuple[UUID, UUID]:
    """Send a delivery's event again. Part of the caller's transaction().

    Returns: the new delivery's id, and its job's.
    Raises: Conflict where the endpoint is disabled, is being sent this event already, or has much else pending;
    NotFound where it was deleted.
    """
    # Locked: two requests at once are one after the other.
    endpoint = get_endpoint(delivery.store_id, delivery.endpoint_id)
    require_enabled(endpoint)
    named = {"store_id": delivery.store_id, "endpoint_id": delivery.endpoint_id}
    if fetch_row(_SAME_PENDING, {**named, "seq": delivery.seq}) is not None:
        raise Conflict("a delivery of this event to this endpoint is pending", code="too_many_unfinished")
    if _pending(delivery.store_id, delivery.endpoint_id) >= MOST_PENDING:
        raise Conflict(f"{MOST_PENDING} deliveries to this endpoint are pending", code="too_many_unfinished")
    event = delivery.seq, delivery.event_id, delivery.event_type
    return deliver_one(delivery.store_id, delivery.endpoint_id, event, None, NOW, requested_by)


def get_delivery(store_id: UUID, delivery_id: UUID) -> Delivery:
    """Raises: NotFound."""
    delivery = db.session.get(Delivery, (store_id, delivery_id))
    if delivery is None:
        raise NotFound("there is no such webhook delivery")
    return delivery


def request_replay(endpoint: Endpoint, requested_by: UUID, new: NewReplay) -> tuple[UUID, WebhookReplay]:
    """Have a range of events sent again by a job. Part of the caller's transaction().

    Returns: the job's id, and what it will do.
    Raises: ValidationFailed; Conflict where the endpoint is disabled, or too many replays are not over.
    """
    _check(new)
    require_enabled(endpoint)
    store_id = endpoint.store_id
    _require_few_unfinished(endpoint)
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
        dedupe_key=str(endpoint.id),
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


def _require_few_unfinished(endpoint: Endpoint) -> None:
    take_turns("webhook replays of a store", str(endpoint.store_id))
    count, has_one = fetch_row(_UNFINISHED, {"store_id": endpoint.store_id, "endpoint_id": endpoint.id}) or (0, False)
    if has_one:
        raise Conflict("a replay of this endpoint is not over: wait for it, or cancel it", code="too_many_unfinished")
    if count >= MOST_UNFINISHED:
        raise Conflict(f"{MOST_UNFINISHED} replays of this store are not over", code="too_many_unfinished")


def _before(store_id: UUID, moment: Moment) -> int:
    """The number of the store's last event before `moment`; 0 where there is none."""
    row = fetch_row(_BEFORE, {"store_id": store_id, "moment": moment})
    return int(row[0]) if row else 0


def replay(run: Run, store_id: UUID, endpoint_id: UUID, *, after: int, last: int, missed: bool) -> None:
    """Ask for the deliveries of a replay, as many as there is room for. Raises: Canceled; Retry while there is none."""
    wanted = {"store_id": store_id, "endpoint_id": endpoint_id, "last": last, "missed": missed}
    position = after + run.reported
    while position < last:
        run.check()
        with transaction():
            room = MOST_PENDING - _pending(store_id, endpoint_id)
            if room <= 0:
                break
            found = wanted | {"after": position, "asked_by": run.job_id, "batch": room}
            rows = db.session.execute(_NEXT_APART if is_spread() else _NEXT_AT_ONCE, found).all()
            deliver_all(store_id, rows, run.job_id, _REPLAY)
        position = rows[-1].seq if len(rows) == room else last
        run.progress(position - after, last - after, "events")
    if position < last:
        raise Retry(_AGAIN_S, "deliveries to the endpoint are pending", charged=False)
    href = f"/v1/stores/{store_id}/webhook-deliveries?endpoint_id={endpoint_id}"
    run.complete({"href": href, "type": "application/json"})


def _pending(store_id: UUID, endpoint_id: UUID) -> int:
    """How many deliveries to an endpoint are pending, up to MOST_PENDING."""
    (count,) = fetch_row(_PENDING, {"store_id": store_id, "endpoint_id": endpoint_id, "most": MOST_PENDING}) or (0,)
    return int(count)
