"""How an attempt can end other than by success. Handlers raise these; anything else they raise is tried again."""

import random
from typing import Any

from dues.errors import Problem

_LONGEST_BACKOFF_S = 3600.0


class Canceled(Exception):
    """Somebody asked for the job to be canceled. Raised by `Run.progress()`; a handler lets it pass."""


class Retry(Exception):
    """Try again in `after_s` seconds (default: the usual backoff). It counts as an attempt, unless it is not `charged`.
    With `anew`, no attempt so far counts any more: this one has got some of the work done.

    `waits_for` is the name of a circuit that is open (dues/breaker.py). The job is tried again once that circuit lets
    calls through, and this is never charged.
    `problem` says why, in words that those who see the job may read.
    """

    def __init__(
        self,
        after_s: float | None = None,
        problem: "Problem | str | None" = None,
        *,
        charged: bool = True,
        anew: bool = False,
        waits_for: str | None = None,
    ) -> None:
        super().__init__(str(problem or "retry"))
        self.after_s = after_s
        self.problem = problem
        self.charged = charged and waits_for is None
        self.waits_for = waits_for
        self.anew = anew


class PermanentFailure(Exception):
    """Trying again is no use: the job fails now. `problem` says why, in words that those who see the job may read."""

    def __init__(self, problem: Problem | str) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Interrupted(BaseException):
    """A handler was stopped from outside. Not an Exception: a handler that catches those must still stop."""


class TimedOut(Interrupted):
    """The attempt took longer than its kind's `timeout_s`."""


class Drained(Interrupted):
    """The worker is being stopped and the job did not end in time: it is given back, and the attempt not counted."""


def backoff_s(attempt: int) -> float:
    """How long to wait after `attempt` (from 1) failed: doubling from 2 s, half to one and a half of that, at most
    an hour."""
    return min(_LONGEST_BACKOFF_S, 2.0 ** min(attempt, 20) * random.uniform(0.5, 1.5))  # noqa: S311  (not a secret)


def problem_of(error: BaseException) -> dict[str, Any]:
    """What the job's status document says about `error`: type, title, status and detail.

    Only what was written for its readers: the message of an unforeseen exception may hold anything, so of those
    just the class is named.
    """
    cause = error.problem if isinstance(error, Retry | PermanentFailure) else error
    match cause:
        case Problem():
            return problem(cause.code, cause.title, cause.status, cause.detail)
        case str():
            return problem("job_failed", "The job failed", 500, cause)
        case TimedOut():
            return problem("job_timed_out", "The job took too long", 504, "the attempt was stopped at its time limit")
    return problem("job_failed", "The job failed", 500, type(error).__name__)


def problem(code: str, title: str, status: int, detail: str) -> dict[str, Any]:
    return {"type": f"/problems/{code}", "title": title, "status": status, "detail": detail}


class UnknownKind(Problem):
    """No worker that has seen the job knows what to do with it; one of another release may."""

    status, title, code = 503, "The job waits for another release", "unknown_job_kind"


UNKNOWN_KIND = UnknownKind("the worker that took it does not know this kind of job")
WORKER_LOST = problem("worker_lost", "The worker was lost", 500, "the worker of the last attempt was killed or cut off")
