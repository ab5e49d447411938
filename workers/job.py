"""How a job's handler is declared, and what happens around it: claim, renew, finish, retry.

    @job(kinds.PAYMENT_CHARGE)
    def charge(run: Run, payment_id: str) -> None:
        ...
        with run.completion():      # what the block writes and the job's success commit together, or not at all
            ...

A handler may run twice: where its worker is killed, another runs it again. It returns the job's result, a dict or None,
unless it has used `run.completion()`. What it may raise is in dues/jobs/exceptions.py.
"""

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from flask import Flask, current_app

from dues.breaker import release_waiting
from dues.errors import Unavailable
from dues.failpoints import failpoint
from dues.jobs import Canceled, Kind, LeaseLost, Retry, Run
from dues.jobs import lease as leases
from dues.jobs.exceptions import UNKNOWN_KIND, Drained, PermanentFailure, TimedOut, backoff_s, problem_of
from dues.jobs.kinds import KINDS, QueueName
from dues.jobs.lease import Claim, Lease
from dues.jobs.queues import threads
from dues.jobs.turns import Turns, become_due
from dues.observability.logs import log_fields
from dues.observability.trace import Spanned, Value
from dues.postgres import STORE_MOVES, failure_of, fetch_row, sqlstate_of, told
from dues.settings import settings
from dues.webhooks.waiting import release
from workers.app import create_worker_app
from workers.forked import run_forked
from workers.heartbeat import Renewer
from workers.interrupts import interrupts
from workers.retry_db import patiently

log = logging.getLogger("dues.jobs")

# A job that waits for its next attempt can be done at once.
_HURRY = "update jobs set run_at = now() where id = %(id)s and status = 'queued' and run_at > now() returning id"
_STATUS = "select status from jobs where id = %(id)s"
# How often to check whether another worker has finished a job, in seconds.
_LOOK_S = 0.02

Handler = Callable[..., dict[str, Any] | None]
H = TypeVar("H", bound=Handler)
Held = tuple[Claim, Lease]

# The exceptions by which a handler says what is to happen next. Any other is a bug, or a failure outside.
_FORESEEN = (LeaseLost, Canceled, Drained, PermanentFailure, Retry)
# When a job of a kind that this version does not know is tried again, in seconds.
_UNKNOWN_AGAIN_S = 30.0
# When a job that met a store which moves to another Dues is tried again, in seconds.
_MOVING_AGAIN_S = 5.0


@dataclass(frozen=True)
class Declared:
    """A kind of job and its handler."""

    kind: Kind
    handler: Handler


HANDLERS: dict[str, Declared] = {}


def job(kind: Kind) -> Callable[[H], H]:
    """Declare the decorated function as the handler of `kind`: it is called with a `Run` and the job's arguments."""

    def declare(handler: H) -> H:
        if kind.name in HANDLERS:
            raise RuntimeError(f"{kind.name} already has a handler: {HANDLERS[kind.name].handler.__qualname__}")
        HANDLERS[kind.name] = Declared(kind, handler)
        return handler

    return declare


class UndeclaredJob(Exception):
    """The table of kinds and the handlers do not agree; the message names each difference and its remedy."""


def check_declared(kinds: Mapping[str, Kind] = KINDS, handlers: Mapping[str, Declared] = HANDLERS) -> None:
    """Called before a worker starts. Raises: UndeclaredJob."""
    faults = [
        f"{name} is in dues/jobs/kinds.py but has no handler: declare one with @job in a module of dues/slices.py"
        for name in sorted(kinds.keys() - handlers.keys())
    ] + [
        f"{handlers[name].handler.__qualname__} is the handler of {name}, which is not in dues/jobs/kinds.py: add it to"
        " KINDS"
        for name in sorted(handlers.keys() - kinds.keys())
    ]
    if faults:
        raise UndeclaredJob("\n".join(faults))


def perform(queue: QueueName, is_over: Callable[[], bool] = lambda: False) -> int:
    """Do the due jobs of a queue, one after another, until none is due or `is_over()`. Deliveries in RQ name this
    function. Never raises: the rows of the jobs have their outcomes. Returns: how many attempts were made."""
    first = begin(queue)
    return 0 if first is None else go_on(queue, first, is_over)


def begin(queue: QueueName) -> Held | None:
    """Claim the next job of a queue. Never raises. Returns: None where no job is due or the claim failed."""
    try:
        with _app().app_context():
            held = patiently(partial(_turns(queue).claim, _worker_name(), threads(queue) - _at_work[queue]))
            if held:
                _count(queue, 1)
            return held
    except Exception as error:
        _log(f"no job of {queue} could be claimed", error)
        return None


def go_on(queue: QueueName, first: Held, is_over: Callable[[], bool]) -> int:
    """Do the claimed job `first`, then claim and do the next until none is due. Never raises. Returns: how many
    attempts were made."""
    held: Held | None = first
    count = 0
    while held is not None:
        try:
            with _app().app_context():
                execute(*held)
        except Exception as error:
            # The outcome could not be written: the lease will run out, and the relay requeues the job.
            _log(f"job {held[0].job_id} could not be ended", error)
        _count(queue, -1)
        count += 1
        held = None if is_over() else begin(queue)
    return count


def _log(what: str, error: Exception) -> None:
    """Log an error: in one line where PostgreSQL could not do it, else with its traceback, since it is a bug."""
    failure = failure_of(error)
    why = failure.detail if failure else type(error).__name__
    log.error("%s: %s", what, why, exc_info=None if failure else error)


def make_due() -> int:
    """Make jobs due whose time has come. The relay does that; this is for when none runs. Returns: how many."""
    with _app().app_context():
        return become_due() + release() + release_waiting()


def promote() -> int:
    """`make_due()`, which never raises."""
    try:
        return make_due()
    except Exception as error:
        log.warning("could not look for jobs whose time has come: %s", told(error))
        return 0


def perform_here(job_id: UUID) -> None:
    """Do a job at once, as part of another job's handler, even if its next attempt was due later. Where another worker
    has it, wait until that attempt has ended."""
    fetch_row(_HURRY, {"id": job_id})
    begun = patiently(partial(leases.claim, [job_id], _worker_name()))
    if begun is not None:
        execute(begun.claim, begun.lease)
        return
    while (found := fetch_row(_STATUS, {"id": job_id})) and found[0] == "running":
        time.sleep(_LOOK_S)


def execute(claim: Claim, lease: Lease) -> None:
    """Make one attempt at a claimed job and write its outcome."""
    failpoint("worker.after_claim")
    declared = HANDLERS.get(claim.kind)
    run = Run(claim, lease)
    started = time.monotonic()
    told: dict[str, Value] = {"dues.job.id": str(claim.job_id), "dues.job.attempt": claim.attempt}
    with (
        Spanned(f"job {claim.kind}", "consumer", told, parent=claim.trace) as span,
        log_fields(job_id=str(claim.job_id)),
    ):
        if declared and declared.kind.forked:
            renewer().end()
            status = run_forked(run, claim.timeout_s, lambda: attempt(claim, run, declared.handler))
        else:
            with renewer().keeping(lease, claim.timeout_s):
                status = attempt(claim, run, declared.handler if declared else partial(_unknown, claim.kind))
        span.attributes["dues.job.status"], span.failed = status, status == "failed"
        failpoint("worker.after_complete")
        log.info(
            "job %s %s: attempt %d %s after %.3f s",
            claim.job_id,
            claim.kind,
            claim.attempt,
            status,
            time.monotonic() - started,
        )


def attempt(claim: Claim, run: Run, handler: Handler) -> str:
    """Run the handler once and write the outcome. Returns: the job's new status, or `lost`."""
    try:
        try:
            with interrupts.during_handler(claim.timeout_s):
                result = handler(run, **claim.args)
            if not run.completed:
                run.complete(result)
        except (Exception, TimedOut, Drained) as raised:
            error = _foreseen(raised)
            if run.completed or not isinstance(error, _FORESEEN):
                what = "failed after its completion" if run.completed else "failed"
                log.error("job %s %s: attempt %d %s", claim.job_id, claim.kind, claim.attempt, what, exc_info=error)
            return patiently(partial(_end, claim, run, error))
    except LeaseLost:
        log.warning("job %s %s: attempt %d lost its lease; another goes on", claim.job_id, claim.kind, claim.attempt)
        return "lost"
    return "succeeded"


def _foreseen(error: BaseException) -> BaseException:
    """A job that belongs to no store may meet one that takes no writes while it moves: it is tried again until the
    store is here or gone, which costs it no attempt."""
    if sqlstate_of(error) != STORE_MOVES:
        return error
    return Retry(_MOVING_AGAIN_S, Unavailable("a store that this is about is being moved"), charged=False)


def _end(claim: Claim, run: Run, error: BaseException) -> str:
    """Write the outcome of an attempt that raised `error`. Returns: the job's new status. Raises: LeaseLost."""
    lease = run.lease
    if run.completed:
        return "succeeded"
    match error:
        case LeaseLost():
            raise error
        case Canceled():
            return lease.give_back(canceled=True)
        case Drained():
            return lease.give_back(uncharged=True)
        case PermanentFailure():
            return lease.give_back(error=problem_of(error), final=True)
        case Retry():
            after_s = backoff_s(claim.attempt) if error.after_s is None else error.after_s
            return lease.give_back(
                error=problem_of(error),
                after_s=after_s,
                uncharged=not error.charged,
                anew=error.anew,
                waits_for=error.waits_for,
            )
    return lease.give_back(error=problem_of(error), after_s=backoff_s(claim.attempt))


_unknown_kinds: set[str] = set()


def _unknown(kind: str, run: Run, **args: object) -> None:
    """The handler for kinds that this version of Dues does not know, but another one may, while a release is rolled out
    or back. The job waits for a worker of that version as long as it takes, which costs it no attempt."""
    if kind not in _unknown_kinds:
        _unknown_kinds.add(kind)
        log.warning("jobs of the kind %s wait for workers that know it: those of this process do not", kind)
    raise Retry(_UNKNOWN_AGAIN_S, UNKNOWN_KIND, charged=False)


def _worker_name() -> str:
    return f"{_hostname()}:{os.getpid()}"


@cache
def _hostname() -> str:
    return socket.gethostname()


_process_app: Flask | None = None


def use_app(app: Flask) -> None:
    """Run this process's jobs with `app` instead of an application made from the environment."""
    global _process_app
    _process_app = app


def _app() -> Flask:
    if _process_app is None:
        use_app(create_worker_app())
    assert _process_app
    return _process_app


# Held while something is made once for the process, and for the counts.
_once = threading.Lock()
# How many jobs of a queue this process has claimed and not ended yet.
_at_work: Counter[QueueName] = Counter()


def _count(queue: QueueName, by: int) -> None:
    with _once:
        _at_work[queue] += by


def _turns(queue: QueueName) -> Turns:
    with _once:
        turns: dict[QueueName, Turns] = current_app.extensions.setdefault("jobs.turns", {})
        return turns.setdefault(queue, Turns(queue))


def renewer() -> Renewer:
    """The renewer of the current application, which is made when first asked for."""
    with _once:
        found: Renewer | None = current_app.extensions.get("jobs.renewer")
        if found is None:
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            found = current_app.extensions["jobs.renewer"] = Renewer(app, settings().job_lease_s / 3)
        return found
