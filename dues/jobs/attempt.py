"""One attempt at a job as its handler sees it: progress, and the completion that commits with what the handler did."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from dues.clock import now, rfc3339
from dues.jobs.exceptions import Canceled
from dues.jobs.lease import Claim, Lease
from dues.jobs.notifications import tell_change
from dues.postgres import after_commit, transaction

# Progress is written at most twice a second.
_PROGRESS_EVERY_S = 0.5


@dataclass
class Completion:
    """What `Run.completion()` yields: the open transaction's session, and the job's `result`, which may be set."""

    session: Session
    result: dict[str, Any] | None


class Run:
    """One attempt. `attempt` counts from 1; `args` are those the job was enqueued with."""

    def __init__(self, claim: Claim, lease: Lease) -> None:
        self.job_id: UUID = claim.job_id
        self.attempt: int = claim.attempt
        self.args: dict[str, Any] = claim.args
        self.completed = False
        self.lease = lease
        self._progress = _Progress(claim.progress)
        self._written_at = -_PROGRESS_EVERY_S

    @property
    def reported(self) -> int:
        """How many units earlier attempts have reported as done."""
        return self._progress.completed

    def check(self) -> None:
        """Before something that cannot be undone: make sure the job is still ours. Raises: LeaseLost."""
        self.lease.check()

    def progress(self, completed: int, total: int, unit: str) -> None:
        """Report that `completed` of `total` units (`rows`, `mails`) are done. Call it as often as you like.

        What the status shows never goes back, not even when an attempt starts over.
        Raises: Canceled when that was asked for; LeaseLost.
        """
        self._progress.advance(completed, total, unit)
        self.check()
        moment = time.monotonic()
        if moment - self._written_at >= _PROGRESS_EVERY_S:
            self._written_at = moment
            self.lease.report(self._progress.document())
        if self.lease.cancel_requested:
            raise Canceled

    @contextmanager
    def completion(self, result: dict[str, Any] | None = None) -> Iterator[Completion]:
        """A `transaction()` whose commit is also the job's success; `result` is what the status document shows,
        e.g. `{"href": …, "type": …}`.

        Raises: LeaseLost, and rolls back all that the block did, when another worker has the job now.
        """
        with transaction() as session:
            completion = Completion(session, result)
            yield completion
            version = self.lease.complete(completion.result, self._progress.finished())
            after_commit(partial(tell_change, self.job_id, version))
        self.completed = True

    def complete(self, result: dict[str, Any] | None) -> None:
        """Success of a handler that left nothing to commit with it. Raises: LeaseLost."""
        tell_change(self.job_id, self.lease.complete(result, self._progress.finished()))
        self.completed = True


class _Progress:
    """The furthest that was ever reported, and when the rest will be done."""

    def __init__(self, before: dict[str, Any] | None) -> None:
        self._shown = before
        self._began_at: float | None = None
        self._began_with = 0
        self._eta: str | None = None

    def advance(self, completed: int, total: int, unit: str) -> None:
        total = max(total, 0)
        completed = min(max(completed, 0), total)
        if self._began_at is None:
            self._began_at, self._began_with = time.monotonic(), completed
        done = completed - self._began_with
        seconds = time.monotonic() - self._began_at
        self._eta = rfc3339(now() + timedelta(seconds=(total - completed) * seconds / done)) if done else None
        if self._shown is None or completed * self._shown["total"] >= self._shown["completed"] * total:
            self._shown = {"completed": completed, "total": total, "unit": unit}

    @property
    def completed(self) -> int:
        return int(self._shown["completed"]) if self._shown else 0

    def document(self) -> dict[str, Any]:
        assert self._shown is not None
        return {**self._shown, "eta": self._eta}

    def finished(self) -> dict[str, Any] | None:
        """All of it, if any was ever reported."""
        if self._shown is None:
            return None
        return {**self._shown, "completed": self._shown["total"], "eta": None}
