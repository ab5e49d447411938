"""Renewals in real time: due actions of subscriptions are carried out in batches, each batch in one transaction.

Due subscriptions are found by an index and claimed with `for update skip locked`, so no two workers process the same
one. A batch also writes when each subscription is due next, so a worker that is killed has either completed a batch or
not begun it. Charges are jobs, inserted in the same transaction; settlement.py handles their results.
"""

import logging
import time
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from dues.billing.accounts import accounts_of
from dues.billing.due import act
from dues.billing.posting import Posting
from dues.failpoints import failpoint
from dues.jobs import Run, enqueue, kinds
from dues.moving import is_here
from dues.postgres import database_now, fetch_row, is_spread, transaction, unit_of_work
from dues.subscriptions import state
from dues.subscriptions.subscription import Subscription

log = logging.getLogger("dues.billing")

# How many subscriptions one transaction handles: enough to make each cheap, few enough that others do not wait long for
# its locks.
BATCH = 100
# How long one job runs. A night's work is split over many jobs, because the same workers also make the charges. The
# relay enqueues the next job within a second.
_LONGEST_S = 3.0
# When an action fails, it is tried again after this time, so that it does not hold up the others.
_POSTPONE_BY = timedelta(hours=1)

_IS_HERE = is_here("s.store_id")
_IS_DUE = f"select from subscriptions s where s.next_action_at <= %(now)s and not s.test and {_IS_HERE} limit 1"
_CLAIM = f"""
    with due as (
        select s.* from subscriptions s where s.next_action_at <= %(now)s and not s.test and {_IS_HERE}{{of_store}}
        order by s.next_action_at, s.id limit %(most)s for update skip locked),
    free as (
        select c.store_id, c.user_id from customers c
        where (c.store_id, c.user_id) in (select store_id, user_id from due){{of_customers}} for update skip locked)
    select coalesce(json_agg(to_jsonb(d) order by d.next_action_at, d.id), '[]')::text
    from due d join free using (store_id, user_id)
"""
_OF_ALL = _CLAIM.format(of_store="", of_customers="")
# Several servers cannot lock the rows of one statement: there one store is done after the other.
_OF_STORE = _CLAIM.format(of_store=" and s.store_id = %(store_id)s", of_customers=" and c.store_id = %(store_id)s")
_FIRST_STORE = f"""
    select s.store_id from subscriptions s where s.next_action_at <= %(now)s and not s.test and {_IS_HERE}
    order by s.next_action_at, s.id limit 1
"""
# Only if it has not changed since.
_POSTPONE = f"""
    update subscriptions s set next_action_at = %(until)s
    where store_id = %(store_id)s and id = %(id)s and version = %(version)s and {_IS_HERE} returning id
"""


class _Key(msgspec.Struct):
    """What identifies a subscription; read by itself, because a row may contain values that cannot be parsed."""

    store_id: UUID
    id: UUID
    user_id: UUID
    version: int


def offer() -> int:
    """Enqueue a job for due actions, if there are any. Returns: how many jobs were enqueued."""
    if fetch_row(_IS_DUE, {"now": database_now()}) is None:
        return 0
    with transaction():
        enqueue(kinds.SUBSCRIPTION_RENEW, {}, dedupe_key="due")
    return 1


def renew(run: Run) -> dict[str, int]:
    """Carry out due actions until there are none, or the time is up. Returns: how many were done, as `{"done": …}`."""
    until, done = time.monotonic() + _LONGEST_S, 0
    while time.monotonic() < until:
        run.check()
        count = do_batch(BATCH)
        if count == 0:
            break
        done += count
    return {"done": done}


def do_batch(most: int) -> int:
    """Claim at most `most` due subscriptions, and process them in one transaction. Returns: how many."""
    try:
        with transaction():
            claimed = state.parse_all(_claim_document(most))
            do_all(claimed, database_now())
            failpoint("renewal.before_commit")
        failpoint("renewal.after_commit")
        return len(claimed)
    except Exception:
        log.exception("a batch of what is due of subscriptions failed: each is done by itself")
        return _do_each(most)


def do_all(claimed: list[Subscription], now: datetime) -> None:
    """Carry out the first due action of each claimed subscription; `now` is a moment of the store's time. Part of the
    caller's transaction()."""
    if not claimed:
        return
    accounts, posting = accounts_of(claimed), Posting(now)
    failpoint("renewal.after_claim")
    for subscription in claimed:
        act(posting, subscription, accounts[subscription.id])
    posting.write()


def _do_each(most: int) -> int:
    count = 0
    while count < most and _do_one():
        count += 1
    return count


def _do_one() -> bool:
    """Process the first due subscription; if that fails, even while parsing its row, postpone it. Returns: whether
    there was one."""
    claimed: list[_Key] = []
    try:
        with transaction():
            document = _claim_document(1)
            claimed = msgspec.json.decode(document, type=list[_Key])
            do_all(state.parse_all(document), database_now())
    except Exception:
        log.exception("what is due of a subscription could not be done; it is tried again later")
        _postpone(claimed)
    return bool(claimed)


def _postpone(claimed: list[_Key]) -> None:
    """Postpone subscriptions that have just failed."""
    with transaction():
        unit_of_work()
        for subscription in claimed:
            values = {"store_id": subscription.store_id, "id": subscription.id, "version": subscription.version}
            fetch_row(_POSTPONE, values | {"until": database_now() + _POSTPONE_BY})
            state.touch_ids(subscription.store_id, subscription.user_id)


def _claim_document(most: int) -> str:
    """Claim due subscriptions. Returns: their rows as a JSON array."""
    unit_of_work()
    values = {"now": database_now(), "most": most}
    if is_spread():
        found = fetch_row(_FIRST_STORE, values)
        row = found and fetch_row(_OF_STORE, {**values, "store_id": found[0]})
    else:
        row = fetch_row(_OF_ALL, values, hot=True)
    return str(row[0]) if row else "[]"
