"""Moving a test store's clock. Every action that falls due on the way is carried out while the clock shows its due
time, ordered by due time and then by the subscription's id.

Each charge is completed before the next step, by the same job that would make it in real time. A step is one
transaction that also moves the clock, so if a worker is killed, another one continues where it stopped.
"""

import time
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from dues.billing.accounts import lock_subscription
from dues.billing.renewals import do_all
from dues.failpoints import failpoint
from dues.jobs import Retry, Run
from dues.postgres import fetch_row, transaction, unit_of_work
from dues.reads.tags import touch
from dues.stores.clock import arrive

# After this long the job gives way to others in its queue.
_LONGEST_S = 300.0
# How long to wait before asking again about a charge whose gateway has not answered.
_WAIT_S = 5.0

_WHERE = "select moment, advancing_to from store_clocks where store_id = %(store_id)s"
_NEXT = """
    select id, next_action_at from subscriptions
    where store_id = %(store_id)s and test and next_action_at <= %(goal)s order by next_action_at, id limit 1
"""
_MOVE = """
    update store_clocks set moment = greatest(moment, %(to)s), version = version + 1
    where store_id = %(store_id)s and advancing_to is not null returning moment
"""
# Unfinished payments of subscriptions, each with the job that processes it.
_UNDER_WAY = """
    select job_id, status from payments
    where store_id = %(store_id)s and status = any('{pending,processing,unknown}') and subscription_id is not null
    order by id limit 1
"""


def advance(run: Run, store_id: UUID, began_at: datetime, perform: Callable[[UUID], None]) -> None:
    """Move the clock of a test store to the time it was told to reach. `perform` runs a job, given its id, in this
    process.

    Raises: Canceled and LeaseLost; Retry, to continue later.
    """
    until = time.monotonic() + _LONGEST_S
    while True:
        _settle(run, store_id, perform)
        moment, goal = fetch_row(_WHERE, {"store_id": store_id}) or (None, None)
        if goal is None or not _step(store_id, goal):
            break
        failpoint("clock.after_step")
        assert moment
        run.progress(int((moment - began_at).total_seconds()), int((goal - began_at).total_seconds()), "seconds")
        if time.monotonic() > until:
            raise Retry(0, "the clock goes on moving", charged=False)
    with run.completion({"href": f"/v1/stores/{store_id}/clock", "type": "application/json"}):
        arrive(store_id)


def _settle(run: Run, store_id: UUID, perform: Callable[[UUID], None]) -> None:
    """Run the jobs of unfinished charges until every charge has a result. Raises: Retry if a charge makes no progress
    because its gateway does not answer; meanwhile the clock stands still, and the worker is free for other jobs."""
    before = None
    while found := fetch_row(_UNDER_WAY, {"store_id": store_id}, hot=True):
        if found == before:
            raise Retry(_WAIT_S, "a charge has not come to its end yet", charged=False)
        run.check()
        perform(found[0])
        before = found


def _step(store_id: UUID, goal: datetime) -> bool:
    """Carry out the next due action, and move the clock to its due time. Returns: whether there was one."""
    with transaction():
        unit_of_work()
        found = fetch_row(_NEXT, {"store_id": store_id, "goal": goal}, hot=True)
        if found is None:
            return False
        subscription = lock_subscription(store_id, found[0])
        if subscription.next_action_at is None or subscription.next_action_at != found[1]:
            # It has changed since it was read: the member has chosen another default card, for example.
            return True
        moved = fetch_row(_MOVE, {"store_id": store_id, "to": subscription.next_action_at}, hot=True)
        if moved is None:
            return False
        touch(f"store:{store_id}:clock")
        do_all([subscription], moved[0])
        failpoint("clock.before_commit")
    return True
