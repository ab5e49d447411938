"""Deletes old deliveries and events. The numbering of events goes on all the same."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dues.moving import is_here
from dues.partitions.rows import ONE_BY_ONE, one_by_one
from dues.postgres import fetch_row, is_spread, stores_with, unit_of_work
from dues.settings import settings

_MOST = 1000

# Each store is looked into by its own index. A delivery under way, of a replay say, keeps its event.
_DELIVERIES = f"""
    with old as (
        select d.store_id, d.id from event_streams s cross join lateral (
            select store_id, id from webhook_deliveries
            where store_id = s.store_id and created_at < now() - %(kept)s and status <> 'pending'
                and {ONE_BY_ONE.format(key="id")}
            order by created_at, id limit %(most)s) d
        where {is_here("s.store_id")}
        limit %(most)s),
    gone as (
        delete from webhook_deliveries d using old where d.store_id = old.store_id and d.id = old.id returning 1)
    select count(*) from gone
"""
_EVENTS = f"""
    with old as (
        select e.store_id, e.seq, e.id from event_streams s cross join lateral (
            select store_id, seq, id from events
            where store_id = s.store_id and created_at < now() - %(kept)s
                and {ONE_BY_ONE.format(key="id")} and not exists (
                select from webhook_deliveries d where d.store_id = events.store_id and d.event_id = events.id
                    and d.status = 'pending')
            order by created_at limit %(most)s) e
        where {is_here("s.store_id")}
        limit %(most)s),
    gone as (
        delete from events e using old
        where e.store_id = old.store_id and e.seq = old.seq and e.id = old.id returning 1)
    select count(*) from gone
"""
# Where the database is spread, deliveries are on another server than events.
_OLD_DELIVERIES = "webhook_deliveries t where t.created_at < now() - %(kept)s and t.status <> 'pending'"
_DELIVERIES_OF_STORE = """
    with gone as (
        delete from webhook_deliveries where store_id = %(store_id)s and id = any(array(
            select d.id from webhook_deliveries d
            where d.store_id = %(store_id)s and d.created_at < now() - %(kept)s and d.status <> 'pending'
            order by d.created_at, d.id limit %(most)s)) returning 1)
    select count(*) from gone
"""
_OLD_EVENTS = """
    event_streams t where exists (
        select 1 from events e where e.store_id = t.store_id and e.created_at < now() - %(kept)s)
"""
_UNDER_WAY = """
    select coalesce(array_agg(distinct event_id::text), '{}') from webhook_deliveries
    where store_id = %(store_id)s and status = 'pending'
"""
_EVENTS_OF_STORE = """
    with old as (
        select e.seq, e.id from events e
        where e.store_id = %(store_id)s and e.created_at < now() - %(kept)s and e.id <> all(%(under_way)s::uuid[])
        order by e.created_at limit %(most)s),
    gone as (
        delete from events e using old
        where e.store_id = %(store_id)s and e.seq = old.seq and e.id = old.id returning 1)
    select count(*) from gone
"""


def delete_expired_events() -> int:
    """Deliveries made, and events written, KEEP_EVENTS_DAYS ago, some at a time, in the caller's transaction().

    Returns: how many; 0 means that none are left.
    """
    unit_of_work()
    kept = timedelta(days=settings().keep_events_days)
    values = {"kept": kept, "most": _MOST}
    if is_spread():
        return _by_store(values)
    found = (
        fetch_row(statement, values | one_by_one(table, kept))
        for table, statement in (("webhook_deliveries", _DELIVERIES), ("events", _EVENTS))
    )
    return sum(int(row[0]) for row in found if row)


def _by_store(values: Mapping[str, Any]) -> int:
    total = 0
    for store_id in stores_with(_OLD_DELIVERIES, values):
        (count,) = fetch_row(_DELIVERIES_OF_STORE, {**values, "store_id": store_id}) or (0,)
        total += int(count)
    for store_id in stores_with(_OLD_EVENTS, values):
        of_store = {**values, "store_id": store_id}
        (under_way,) = fetch_row(_UNDER_WAY, of_store) or ([],)
        (count,) = fetch_row(_EVENTS_OF_STORE, {**of_store, "under_way": under_way}) or (0,)
        total += int(count)
    return total
