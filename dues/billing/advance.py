"""Moving a test store's clock: every action that falls due on the way is done, in order of its due time and then of the
subscription's id, while the clock shows that time.

Each charge comes to its end before the next step, by the job that would make it in real time. A step is one transaction
that also moves the clock, so after a worker is killed another goes on where it stopped.
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

# After this long the job gives way to the others in its queue.
_LONGEST_S = 300.0
# How long to wait for a charge about which its gateway says nothing.
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
# Payments of subscriptions that are under way, each with the job that takes it further.
_UNDER_WAY = """
    select job_id, status from payments
    where store_id = %(store_id)s and status = any('{pending,processing,unknown}') and subscription_id is not null
    order by id limit 1
"""


def advance(run: Run, store_id: UUID, began_at: datetime, perform: Callable[[UUID], None]) -> None:
    """`perform` does a job here and now. Raises: Canceled, LeaseLost; Retry, to go on later."""
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
    """Have every charge that is under way come to its end. Raises: Retry where one does not, since its gateway gives no
    answer: the clock waits for it, and leaves the worker to others meanwhile."""
    before = None
    while found := fetch_row(_UNDER_WAY, {"store_id": store_id}, hot=True):
        if found == before:
            raise Retry(_WAIT_S, "a charge has not come to its end yet", charged=False)
        run.check()
        perform(found[0])
        before = found


def _step(store_id: UUID, goal: datetime) -> bool:
    """Do the next thing that is due, and move the clock to it. Returns: whether there was one."""
    with transaction():
        unit_of_work()
        found = fetch_row(_NEXT, {"store_id": store_id, "goal": goal}, hot=True)
        if found is None:
            return False
        one = lock_subscription(store_id, found[0])
        if one.next_action_at is None or one.next_action_at != found[1]:
            # The member has changed it meanwhile, by choosing another default card.
            return True
        moved = fetch_row(_MOVE, {"store_id": store_id, "to": one.next_action_at}, hot=True)
        if moved is None:
            return False
        touch(f"store:{store_id}:clock")
        do_all([one], moved[0])
        failpoint("clock.before_commit")
    return True
