"""The relay, `python -m workers.relay`: hands due jobs to RQ, brings lost ones back, and keeps the schedule.

Any number may run at once. Nothing is in their memory: a job is handed over in the transaction that marks it, so a
relay or a Redis that dies half-way leaves it due, and the worst that can happen is a delivery too many, whose claim
finds nothing to do.
"""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2
import redis
import sqlalchemy.exc
from flask import Flask, current_app
from redis.client import PubSub
from sqlalchemy import Row, TextClause, text

from dues.failpoints import failpoint
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.kinds import QUEUES
from dues.jobs.lease import take_back
from dues.jobs.notifications import CHANNEL
from dues.observability.logs import start_logging
from dues.postgres import db, transaction
from dues.reads.freshness import restore_cache_once
from dues.settings import settings
from workers import registry as bodies
from workers.app import create_worker_app
from workers.rq_queues import Deliveries, Delivery, connect
from workers.schedule import tick_once

log = logging.getLogger("dues.relay")

# A queue in RQ is kept short, so that `priority` means something and comparing it with the rows is cheap.
MOST_WAITING = 1000
_BATCH = 200
# A delivery that is in no queue after this long was lost, not just taken by a worker that has yet to claim.
_LOST_AFTER_S = 3.0
_HOUSEKEEPING_EVERY_S = 1.0
_REDIS_TIMEOUT_S = 2.0

_OFFER = text("""
    with due as (
        select offered.id from unnest(cast(:queues as text[]), cast(:rooms as int[])) as q(name, room)
        cross join lateral (
            select id from jobs
            where queue = q.name and status = 'queued' and dispatched_at is null and run_at <= now()
            order by priority, run_at, id limit q.room for update skip locked) offered)
    update jobs set dispatched_at = now(), delivery = delivery + 1 from due where jobs.id = due.id
    returning jobs.id, jobs.delivery, jobs.queue, jobs.timeout_s, jobs.priority, jobs.run_at
""")
_EXPIRED = text("""
    select id from jobs where status = 'running' and lease_until < clock_timestamp() order by lease_until limit 500
""")
_LOST = text("""
    with lost as (
        select id from jobs
        where queue = :queue and status = 'queued' and run_at <= now()
            and dispatched_at < clock_timestamp() - make_interval(secs => :after_s)
            and not exists (select 1 from unnest(cast(:waiting as text[])) as w(rq_id)
                            where w.rq_id = replace(jobs.id::text, '-', '') || '-' || delivery)
        limit 1000 for update skip locked)
    update jobs set dispatched_at = null from lost where jobs.id = lost.id returning jobs.id
""")
_OVER = text("""
    select t.rq_id from unnest(cast(:taken as text[])) as t(rq_id)
    left join jobs on jobs.id = cast(split_part(t.rq_id, '-', 1) as uuid)
    where jobs.id is null or jobs.status not in ('queued', 'running')
        or t.rq_id <> replace(jobs.id::text, '-', '') || '-' || jobs.delivery
        or jobs.status = 'queued' and jobs.dispatched_at is null
""")


def relay_once() -> int:
    """Hand over due jobs, the most urgent of each queue first. Returns how many.

    Raises: redis.RedisError, and then nothing has changed.
    """
    deliveries = _deliveries()
    rooms = [max(0, min(_BATCH, MOST_WAITING - length)) for length in deliveries.lengths(QUEUES)]
    with transaction() as session:
        rows = session.execute(_OFFER, {"queues": list(QUEUES), "rooms": rooms}).all()
        if not rows:
            return 0
        failpoint("relay.after_select")
        deliveries.push(Delivery(row.id, row.delivery, row.queue, row.timeout_s) for row in sorted(rows, key=_urgency))
        failpoint("relay.after_push")
    failpoint("relay.after_commit")
    return len(rows)


def _urgency(row: Row[Any]) -> tuple[int, datetime, UUID]:
    return row.priority, row.run_at, row.id


def sweep_once() -> int:
    """Bring back the jobs of workers that let their lease run out, and those whose delivery was lost. Returns how
    many. Raises: redis.RedisError, after the leases."""
    count, deliveries = _sweep_leases(), _deliveries()
    for name in QUEUES:
        count += _sweep_lost(deliveries, name)
    return count


def _sweep_leases() -> int:
    count = 0
    for job_id in _ids(_EXPIRED):
        try:
            status = take_back(job_id, WORKER_LOST)
        except Exception:
            # One job that cannot be ended must not keep the others from coming back.
            log.exception("job %s could not be taken back", job_id)
            continue
        if status:
            count += 1
            log.warning("job %s lost its worker and is %s now", job_id, status)
    return count


def _sweep_lost(deliveries: Deliveries, name: str) -> int:
    waiting = deliveries.waiting(name)
    with transaction() as session:
        lost = session.execute(_LOST, {"queue": name, "waiting": waiting, "after_s": _LOST_AFTER_S}).all()
    if lost:
        log.warning("%d deliveries to the queue %s were lost and are offered again", len(lost), name)
    if taken := deliveries.taken(name):
        with db.engine.connect() as connection:
            over = list(connection.execute(_OVER, {"taken": taken}).scalars())
        if over:
            deliveries.put_away(name, over)
    return len(lost)


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
    """The hints of those who enqueue; where there are none to be had, just the time that passes."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url, _REDIS_TIMEOUT_S)
        self._hints: PubSub | None = None

    def wait(self, longest_s: float) -> None:
        """Return at the first hint, or after `longest_s`. All the hints that came meanwhile are one."""
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
    """The process's loop: hand over what is due, and every second sweep, tick and see to the cache, until `stop()`.

    What fails is logged when it begins to fail and when it works again, and never keeps the other tasks from running.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._failing: set[str] = set()
        self._stopping = False

    def stop(self) -> None:
        self._stopping = True

    def run(self) -> None:
        with self._app.app_context():
            poll_s = settings().relay_poll_s
            wakeups = Wakeups(settings().redis_url)
        housekeeping_at = 0.0
        while not self._stopping:
            moved = self._try("handing over", relay_once)
            if time.monotonic() >= housekeeping_at:
                housekeeping_at = time.monotonic() + _HOUSEKEEPING_EVERY_S
                self._try("sweeping", sweep_once)
                self._try("the schedule", tick_once)
                self._try("the cache's switch", restore_cache_once)
            if moved < _BATCH:
                wakeups.wait(poll_s)
        wakeups.close()

    def _try(self, name: str, task: Callable[[], int]) -> int:
        try:
            with self._app.app_context():
                done = task()
        except (redis.RedisError, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            if name not in self._failing:
                log.error("%s fails for now: %s", name, type(error).__name__)
            self._failing.add(name)
            return 0
        if name in self._failing:
            self._failing.remove(name)
            log.warning("%s works again", name)
        return done


def main() -> None:
    app = create_worker_app()
    with app.app_context():
        start_logging(settings().log_level)
    relay = Relay(app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    log.info("relay started; bodies from %s", ", ".join(module.__name__ for module in bodies.MODULES))
    relay.run()


if __name__ == "__main__":
    main()
