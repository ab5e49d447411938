"""Deliveries that wait for their endpoint, all of them together.

While an endpoint is left alone (its circuit is open), the deliveries that are due to it are put off in few statements,
however many they are, and no worker is offered them: their jobs are not due, and they have no `next_attempt_at`. The
relay makes one of them due when the endpoint's rest is over, and all once the endpoint answers, has another URL or is
disabled. The oldest come first, as if they had never waited.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from dues.breaker import WEBHOOKS
from dues.moving import is_here
from dues.postgres import array_text, fetch_row, is_spread, transaction, unit_of_work

# How many deliveries one statement puts off at most.
MOST_PUT_OFF = 1000
# How many deliveries to one endpoint are made due again at a time. If the endpoint fails again, they are put off as
# quickly.
MOST_RELEASED = 500
# When a waiting job is due by itself: after the time at which a failing endpoint is disabled.
LONGEST = timedelta(days=7)

# Arrays: whatever their length, the planner makes the same guess and goes through the indexes by id.
_PUT_OFF = """
    with found as (
        select d.id, d.job_id from webhook_deliveries d join jobs j on j.id = d.job_id
        where d.store_id = %(store_id)s and d.endpoint_id = %(endpoint_id)s and d.status = 'pending'
            and d.next_attempt_at <= now() and j.status = 'queued' and j.due
        order by d.next_attempt_at limit %(most)s for update of j skip locked),
    later as (
        update jobs set due = false, version = version + 1,
            run_at = now() + coalesce(make_interval(secs => %(wait_s)s), %(longest)s)
        where id = any(array(select job_id from found))),
    noted as (
        update webhook_deliveries set failure_code = %(code)s, version = version + 1, updated_at = clock_timestamp(),
            next_attempt_at = now() + make_interval(secs => %(wait_s)s)
        where store_id = %(store_id)s and id = any(array(select id from found)) returning 1)
    select count(*) from noted
"""
# Where the database is spread: Citus knows deliveries, and not jobs, and so takes no statement that writes both.
_DUE = """
    select coalesce(array_agg(d.job_id::text), '{}') from (
        select job_id from webhook_deliveries
        where store_id = %(store_id)s and endpoint_id = %(endpoint_id)s and status = 'pending'
            and next_attempt_at <= now()
        order by next_attempt_at limit %(most)s for update skip locked) d
"""
_PUT_OFF_JOBS = """
    with found as (
        select id from jobs where id = any(%(job_ids)s::uuid[]) and status = 'queued' and due
        for update skip locked),
    later as (
        update jobs set due = false, version = version + 1,
            run_at = now() + coalesce(make_interval(secs => %(wait_s)s), %(longest)s)
        where id = any(array(select id from found)) returning id)
    select coalesce(array_agg(id::text), '{}') from later
"""
_NOTE_PUT_OFF = """
    with noted as (
        update webhook_deliveries set failure_code = %(code)s, version = version + 1,
            updated_at = (select clock_timestamp()), next_attempt_at = now() + make_interval(secs => %(wait_s)s)
        where store_id = %(store_id)s and endpoint_id = %(endpoint_id)s and status = 'pending'
            and job_id = any(%(job_ids)s::uuid[]) returning 1)
    select count(*) from noted
"""
_WAITS = "status = 'pending' and next_attempt_at is null"
# Steps from one endpoint to the next in the index of waiting deliveries, whatever the number of deliveries to each.
_FREE = f"""
    with recursive endpoints(id, store_id) as (
        (select endpoint_id, store_id from webhook_deliveries where {_WAITS} order by endpoint_id, id limit 1)
        union all
        select next.* from endpoints cross join lateral (
            select endpoint_id, store_id from webhook_deliveries
            where {_WAITS} and endpoint_id > endpoints.id order by endpoint_id, id limit 1) next),
    free as (
        select e.*, case when c.open_until is null or not w.enabled then %(most)s::int else 1 end as most
        from endpoints e join webhook_endpoints w using (store_id, id)
        left join circuit_breakers c on c.name = %(circuits)s || e.id
        where (c.open_until is null or not w.enabled or c.open_until <= clock_timestamp())
            and {is_here("e.store_id")})
    select array_agg(store_id), array_agg(id), array_agg(most) from free
"""
_RELEASE = f"""
    with found as (
        select d.id, d.job_id from (
            select * from webhook_deliveries where {_WAITS} and endpoint_id = %(endpoint_id)s) d
        join jobs j on j.id = d.job_id
        where j.status = 'queued' and not j.due
        order by d.id limit %(most)s for update of j skip locked),
    again as (
        update jobs set due = true, run_at = now(), version = version + 1
        where id = any(array(select job_id from found))),
    noted as (
        update webhook_deliveries set next_attempt_at = now(), version = version + 1, updated_at = clock_timestamp()
        where store_id = %(store_id)s and id = any(array(select id from found)) returning 1)
    select count(*) from noted
"""
_WAITING = f"""
    select coalesce(array_agg(d.job_id::text), '{{}}') from (
        select job_id from webhook_deliveries where {_WAITS} and endpoint_id = %(endpoint_id)s
        order by id limit %(most)s for update skip locked) d
"""
_RELEASE_JOBS = """
    with found as (
        select id from jobs where id = any(%(job_ids)s::uuid[]) and status = 'queued' and not due
        for update skip locked),
    again as (
        update jobs set due = true, run_at = now(), version = version + 1
        where id = any(array(select id from found)) returning id)
    select coalesce(array_agg(id::text), '{}') from again
"""
_NOTE_RELEASED = f"""
    with noted as (
        update webhook_deliveries set next_attempt_at = now(), version = version + 1,
            updated_at = (select clock_timestamp())
        where store_id = %(store_id)s and {_WAITS} and endpoint_id = %(endpoint_id)s
            and job_id = any(%(job_ids)s::uuid[]) returning 1)
    select count(*) from noted
"""


def put_off(store_id: UUID, endpoint_id: UUID, code: str, *, wait_s: float | None, most: int = MOST_PUT_OFF) -> int:
    """What is due to an endpoint, up to `most` of it, is tried `wait_s` from now, or without it when the endpoint is
    asked again; `code` is the deliveries' `failure_code`. Part of the caller's transaction(). Returns: how many."""
    unit_of_work()
    values = {
        "store_id": store_id,
        "endpoint_id": endpoint_id,
        "code": code,
        "wait_s": wait_s,
        "longest": LONGEST,
        "most": most,
    }
    return _by_steps(_DUE, _PUT_OFF_JOBS, _NOTE_PUT_OFF, values) if is_spread() else _count(_PUT_OFF, values)


def release() -> int:
    """Ask again for what waits for endpoints that are not left alone any more: for one delivery, where an endpoint's
    rest is over and it has not answered since. Returns: how many are due now."""
    free = fetch_row(_FREE, {"most": MOST_RELEASED, "circuits": WEBHOOKS})
    if free is None or free[0] is None:
        return 0
    return sum(
        _release({"store_id": store_id, "endpoint_id": endpoint_id, "most": most})
        for store_id, endpoint_id, most in zip(*free, strict=True)
    )


def _release(values: Mapping[str, Any]) -> int:
    if not is_spread():
        return _count(_RELEASE, values)
    with transaction():
        return _by_steps(_WAITING, _RELEASE_JOBS, _NOTE_RELEASED, values)


def _by_steps(find: str, change: str, note: str, values: Mapping[str, Any]) -> int:
    """Find deliveries, change those of their jobs that nobody holds, and note it with the deliveries of these."""
    for statement in (find, change):
        (job_ids,) = fetch_row(statement, values) or ([],)
        if not job_ids:
            return 0
        values = {**values, "job_ids": array_text(job_ids)}
    return _count(note, values)


def _count(sql: str, values: Mapping[str, Any]) -> int:
    (count,) = fetch_row(sql, values) or (0,)
    return int(count)
