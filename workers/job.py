"""The place a job is declared, and what happens around its body: claim, renew, finish, retry.

    @job(kinds.PAYMENT_CHARGE)
    def charge(run: Run, payment_id: str) -> None:
        ...
        with run.completion():      # what the block writes and the job's success commit together, or not at all
            ...

A body may run twice: killed anywhere, it is run again. It returns the job's result, a dict or None, unless it has used
`run.completion()`; what it may raise is in dues/jobs/exceptions.py.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar
from uuid import UUID

from flask import Flask, current_app

from dues.failpoints import failpoint
from dues.jobs import Canceled, Kind, LeaseLost, Retry, Run
from dues.jobs.exceptions import Drained, PermanentFailure, TimedOut, backoff_s, problem_of
from dues.jobs.kinds import KINDS
from dues.jobs.lease import Claim, Lease, claim, claim_next
from dues.observability.logs import log_fields
from dues.observability.trace import tracing
from dues.settings import settings
from workers.app import create_worker_app
from workers.forked import run_forked
from workers.heartbeat import Renewer
from workers.interrupts import interrupts
from workers.retry_db import patiently

log = logging.getLogger("dues.jobs")

Body = Callable[..., dict[str, Any] | None]
B = TypeVar("B", bound=Body)

# How a body says what is to be done next; whatever else it raises is somebody's mistake, or the world's.
_FORESEEN = (LeaseLost, Canceled, Drained, PermanentFailure, Retry)


@dataclass(frozen=True)
class Declared:
    """A kind and the function that does it."""

    kind: Kind
    body: Body


BODIES: dict[str, Declared] = {}


def job(kind: Kind) -> Callable[[B], B]:
    """Declare the decorated function as the body of `kind`: it is called with a `Run` and the job's arguments."""

    def declare(body: B) -> B:
        if kind.name in BODIES:
            raise RuntimeError(f"{kind.name} already has a body: {BODIES[kind.name].body.__qualname__}")
        BODIES[kind.name] = Declared(kind, body)
        return body

    return declare


class UndeclaredJob(Exception):
    """The table of kinds and the bodies do not agree; the message names each difference and its remedy."""


def check_declared(kinds: Mapping[str, Kind] = KINDS, bodies: Mapping[str, Declared] = BODIES) -> None:
    """Called before a worker starts. Raises: UndeclaredJob."""
    faults = [
        f"{name} is in dues/jobs/kinds.py but has no body: declare one with @job in a module of workers/registry.py"
        for name in sorted(kinds.keys() - bodies.keys())
    ] + [
        f"{bodies[name].body.__qualname__} is the body of {name}, which is not in dues/jobs/kinds.py: add it to KINDS"
        for name in sorted(bodies.keys() - kinds.keys())
    ]
    if faults:
        raise UndeclaredJob("\n".join(faults))


def perform(job_id: str, delivery: int = 0) -> None:
    """What a delivery in RQ calls, by this function's name. Never raises: the job's row says how it went."""
    try:
        with _app().app_context():
            execute(UUID(job_id))
    except Exception:
        # Not even the failure could be written: the lease runs out, and the relay brings the job back.
        log.exception("job %s could not be begun, or not be ended", job_id)


def perform_next(queue: str) -> bool:
    """Do the job of `queue` that has been due for longest, without a delivery. Returns: whether there was one. Never
    raises."""
    try:
        with _app().app_context():
            claimed = patiently(partial(claim_next, queue, _worker_name()))
            if claimed is not None:
                _run(*claimed)
            return claimed is not None
    except Exception:
        log.exception("a job of %s could not be begun, or not be ended", queue)
        return False


def execute(job_id: UUID) -> None:
    """Claim a job and run one attempt at it; quietly nothing where it is not to be had (a duplicate delivery)."""
    failpoint("worker.before_claim")
    claimed = patiently(partial(claim, job_id, _worker_name()))
    failpoint("worker.after_claim")
    if claimed is not None:
        _run(*claimed)


def _run(held: Claim, lease: Lease) -> None:
    declared = BODIES.get(held.kind)
    run = Run(held, lease)
    started = time.monotonic()
    with tracing(held.trace), log_fields(job_id=str(held.job_id)):
        if declared and declared.kind.forked:
            _renewer().end()
            status = run_forked(run, held.timeout_s, lambda: attempt(held, run, declared.body))
        else:
            with _renewer().keeping(lease):
                status = attempt(held, run, declared.body if declared else _unknown)
        failpoint("worker.after_complete")
        log.info(
            "job %s %s: attempt %d %s after %.3f s",
            held.job_id,
            held.kind,
            held.attempt,
            status,
            time.monotonic() - started,
        )


def attempt(held: Claim, run: Run, body: Body) -> str:
    """Run the body once and write how it ended. Returns: the job's new status, or `lost`."""
    try:
        try:
            with interrupts.during_body(held.timeout_s):
                result = body(run, **held.args)
            if not run.completed:
                run.complete(result)
        except (Exception, TimedOut, Drained) as error:
            if run.completed or not isinstance(error, _FORESEEN):
                what = "failed after its completion" if run.completed else "failed"
                log.error("job %s %s: attempt %d %s", held.job_id, held.kind, held.attempt, what, exc_info=error)
            return patiently(partial(_end, held, run, error))
    except LeaseLost:
        log.warning("job %s %s: attempt %d lost its lease; another goes on", held.job_id, held.kind, held.attempt)
        return "lost"
    return "succeeded"


def _end(held: Claim, run: Run, error: BaseException) -> str:
    """Write what an attempt's failure means for the job. Raises: LeaseLost."""
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
            after_s = backoff_s(held.attempt) if error.after_s is None else error.after_s
            return lease.give_back(error=problem_of(error), after_s=after_s, uncharged=not error.charged)
    return lease.give_back(error=problem_of(error), after_s=backoff_s(held.attempt))


def _unknown(run: Run, **args: object) -> None:
    """The body of a kind that this version of Dues does not have; another, being rolled out, may."""
    raise Retry(after_s=30)


def _worker_name() -> str:
    return f"{_hostname()}:{os.getpid()}"


@cache
def _hostname() -> str:
    return socket.gethostname()


_process_app: Flask | None = None


def use_app(app: Flask) -> None:
    """Have this process's deliveries run with `app` rather than with one made from the environment."""
    global _process_app
    _process_app = app


def _app() -> Flask:
    if _process_app is None:
        use_app(create_worker_app())
    assert _process_app
    return _process_app


def _renewer() -> Renewer:
    renewer: Renewer | None = current_app.extensions.get("jobs.renewer")
    if renewer is None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        renewer = current_app.extensions["jobs.renewer"] = Renewer(app, settings().job_lease_s / 3)
    return renewer
