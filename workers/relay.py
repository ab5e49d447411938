"""The relay, `python -m workers.relay`: wakes workers for due jobs, brings back lost ones, and keeps the schedule.

Any number of relays may run at once. They keep no state: PostgreSQL knows which jobs are due, and each round adds the
deliveries that RQ's queues lack. So the next round makes up for whatever a relay, Redis or a worker has lost; an
unneeded delivery only wakes a worker that finds nothing to do.
"""

import logging
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import psycopg2
import redis
import sqlalchemy.exc
from flask import Flask, current_app
from redis.client import PubSub
from sqlalchemy import TextClause, text

from dues.billing.renewals import offer
from dues.breaker import release_waiting
from dues.failpoints import failpoint
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.kinds import QUEUES
from dues.jobs.lease import take_back
from dues.jobs.notifications import CHANNEL
from dues.jobs.turns import MOST_BECOMING_DUE, become_due, count_turns
from dues.observability.logs import start_logging
from dues.observability.outage import Outage
from dues.postgres import db, fetch_row, told, transaction
from dues.reads.freshness import restore_cache_once
from dues.reads.freshness.marks import MARK_EVERY_S, make_mark
from dues.settings import settings
from dues.webhooks.waiting import release
from workers import registry
from workers.app import create_worker_app, wait_for_migrations, warn_of_lookalikes
from workers.rq_queues import Deliveries, connect
from workers.schedule import tick_once

log = logging.getLogger("dues.relay")

# The most deliveries that wait in a queue of RQ: enough for all workers that might be idle. Busy workers need none to
# go on.
MOST_WAITING = 50
# The number of the advisory lock that keeps two relays from waking workers twice; no other lock has it.
_LOCK = 7_305_114_901
_HOUSEKEEPING_EVERY_S = 1.0
_REDIS_TIMEOUT_S = 2.0

_BEGIN = "select pg_try_advisory_xact_lock(%(lock)s)"
# From this row, metrics tell whether a relay is at work. A crash may lose the last write.
_LOOKED = """
    insert into relay_looks as r (one, looked_at)
    select true, clock_timestamp() from (select set_config('synchronous_commit', 'off', true)) unhurried
    on conflict (one) do update set looked_at = excluded.looked_at returning one
"""
_EXPIRED = text("""
    select id from jobs where status = 'running' and lease_until < clock_timestamp() order by lease_until limit 500
""")


def relay_once() -> int:
    """Make jobs due whose time has come, and wake workers for all due jobs. Returns: how many jobs became due plus how
    many deliveries were made.

    Raises: redis.RedisError; then no worker was woken, and idle workers find the jobs by polling.
    """
    became_due = become_due() + release() + release_waiting()
    deliveries = _deliveries()
    with transaction():
        (mine,) = fetch_row(_BEGIN, {"lock": _LOCK}, hot=True) or (False,)
        if not mine:
            return became_due
        counts = _missing(deliveries)
        if counts:
            failpoint("relay.after_select")
            deliveries.push(counts)
            failpoint("relay.after_push")
    if counts:
        failpoint("relay.after_commit")
    return became_due + sum(counts.values())


def _missing(deliveries: Deliveries) -> dict[str, int]:
    """How many deliveries each queue lacks: one for each job that could be started, up to MOST_WAITING."""
    found: dict[str, int] = {}
    for name, length in zip(QUEUES, deliveries.lengths(QUEUES), strict=True):
        if length < MOST_WAITING and (count := count_turns(name, MOST_WAITING) - length) > 0:
            found[name] = count
    return found


def note_look() -> int:
    """Record that a relay is at work and can write to Redis as well as PostgreSQL. Raises: redis.RedisError."""
    _deliveries().check(QUEUES)
    fetch_row(_LOOKED, {})
    return 0


def sweep_once() -> int:
    """Requeue, or fail, the jobs whose lease has run out. Returns: how many."""
    count = 0
    for job_id in _ids(_EXPIRED):
        try:
            status = take_back(job_id, WORKER_LOST)
        except Exception:
            # One job that cannot be taken back must not hold up the others.
            log.exception("job %s could not be taken back", job_id)
            continue
        if status:
            count += 1
            log.warning("job %s lost its worker and is %s now", job_id, status)
    return count


def _ids(statement: TextClause) -> list[UUID]:
    with db.engine.connect() as connection:
        return list(connection.execute(statement).scalars())


def _deliveries() -> Deliveries:
    deliveries: Deliveries | None = current_app.extensions.get("jobs.deliveries")
    if deliveries is None:
        redis_client = connect(settings().redis_url, _REDIS_TIMEOUT_S)
        deliveries = current_app.extensions["jobs.deliveries"] = Deliveries(redis_client)
    return deliveries


class Wakeups:
    """Notifications that a job was enqueued. While Redis cannot be reached there are none, and waits last in full."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url, _REDIS_TIMEOUT_S)
        self._hints: PubSub | None = None

    def wait(self, longest_s: float) -> None:
        """Return at the first notification, or after `longest_s`. All that have arrived by then count as one."""
        until = time.monotonic() + longest_s
        try:
            if self._hints is None:
                self._hints = PubSub(self._redis.connection_pool, ignore_subscribe_messages=True)
                self._hints.subscribe(CHANNEL)
            while not self._hints.get_message(timeout=max(until - time.monotonic(), 0)):
                if time.monotonic() >= until:
                    return
            while self._hints.get_message():
                pass
        except (redis.RedisError, OSError):
            self.close()
            time.sleep(max(until - time.monotonic(), 0))

    def close(self) -> None:
        if self._hints is not None:
            with suppress(redis.RedisError, OSError):
                self._hints.close()
            self._hints = None


class Relay:
    """The loop of the process, until `stop()`: wake workers and, every second, do the other tasks.

    A task that fails is logged when it begins to fail and when it works again, and does not hold up the others.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._outages: dict[str, Outage] = defaultdict(Outage)
        self.is_stopping = False

    def stop(self) -> None:
        self.is_stopping = True

    def run(self) -> None:
        with self._app.app_context():
            poll_s, has_replicas = settings().relay_poll_s, bool(settings().database_replica_urls)
            wakeups = Wakeups(settings().redis_url)
        housekeeping_at = mark_at = 0.0
        while not self.is_stopping:
            if has_replicas and time.monotonic() >= mark_at:
                mark_at = time.monotonic() + MARK_EVERY_S
                self._try("the mark for replicas", make_mark)
            moved = self._try("waking workers", relay_once)
            if time.monotonic() >= housekeeping_at:
                housekeeping_at = time.monotonic() + _HOUSEKEEPING_EVERY_S
                self._try("sweeping", sweep_once)
                if moved is not None:
                    self._try("its sign of life", note_look)
                self._try("the schedule", tick_once)
                self._try("what is due of subscriptions", offer)
                self._try("the cache's switch", restore_cache_once)
            if (moved or 0) < MOST_BECOMING_DUE:
                wakeups.wait(poll_s)
        wakeups.close()

    def _try(self, name: str, task: Callable[[], int]) -> int | None:
        """None where it fails."""
        try:
            with self._app.app_context():
                done = task()
        except (redis.RedisError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            if self._outages[name].failed():
                log.error("%s fails for now: %s", name, told(error))
            return None
        except Exception:
            # The others go on, whatever it is.
            if self._outages[name].failed():
                log.exception("%s fails for now", name)
            return None
        if self._outages[name].worked():
            log.warning("%s works again", name)
        return done


def main() -> None:
    app = create_worker_app()
    with app.app_context():
        start_logging(settings().log_level)
    relay = Relay(app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    warn_of_lookalikes()
    wait_for_migrations(app, lambda: relay.is_stopping)
    if not relay.is_stopping:
        log.info("relay started; handlers from %s", ", ".join(module.__name__ for module in registry.MODULES))
        relay.run()


if __name__ == "__main__":
    main()
