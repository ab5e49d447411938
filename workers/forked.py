"""Running a handler in a process of its own: it can be killed at its time limit, and its memory ends with it.

The parent holds and renews the lease and watches the child; the child runs the handler and writes how it ended. They
share a socket on which nothing is sent: when one of them dies, the other reads its end at once.
"""

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable

import psycopg2
import sqlalchemy.exc

from dues.jobs import LeaseLost, Run
from dues.jobs.exceptions import TimedOut, backoff_s, problem, problem_of
from dues.jobs.notifications import tell_change
from dues.observability.trace import flush_spans
from dues.postgres import db
from workers.interrupts import interrupts

log = logging.getLogger("dues.jobs")

# The child stops itself at the time limit. One that has not is killed this much later.
_GRACE_S = 5.0
# How soon a request to stop is noticed.
_WATCH_S = 0.25


def run_forked(run: Run, timeout_s: int, attempt: Callable[[], str]) -> str:
    """Have a child process do `attempt`, which writes the job's end. Returns: the job's status, `ended` where the child
    wrote it, or `lost`."""
    # Parent and child must not share a connection: each would read the other's answers.
    db.session.remove()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_child(theirs, attempt)
    theirs.close()
    with ours:
        return _watch(run, pid, ours, timeout_s)


def _be_child(parent: socket.socket, attempt: Callable[[], str]) -> None:
    """Never returns."""
    code = 1
    try:
        # Only the parent decides when to stop, so a SIGTERM to the whole process group is ignored here.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
        db.engine.dispose(close=False)
        attempt()
        code = 0
    except BaseException:
        log.exception("the process of a job failed")
    finally:
        flush_spans()
        logging.shutdown()
        os._exit(code)


def _die_with(parent: socket.socket) -> None:
    parent.recv(1)
    os._exit(1)


def _watch(run: Run, pid: int, child: socket.socket, timeout_s: int) -> str:
    kill_at = time.monotonic() + timeout_s + _GRACE_S
    renew_at = time.monotonic() + run.lease.seconds / 3
    error: BaseException | None = None
    drained = False
    while not select.select([child], [], [], _WATCH_S)[0]:
        if time.monotonic() >= renew_at:
            renew_at = time.monotonic() + run.lease.seconds / 3
            _renew(run)
        drained = interrupts.drained()
        if time.monotonic() >= kill_at:
            error = TimedOut()
        if drained or error or run.lease.lost:
            os.kill(pid, signal.SIGKILL)
            break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code == 0:
        # The child may have ended before it had sent its own notification.
        tell_change(run.job_id)
        return "ended"
    log.error("job %s: its process ended with %d", run.job_id, code)
    try:
        if drained:
            return run.lease.give_back(uncharged=True)
        found = problem_of(error) if error else problem("process_died", "The job's process died", 500, f"status {code}")
        return run.lease.give_back(error=found, after_s=backoff_s(run.attempt))
    except LeaseLost:
        return "lost"


def _renew(run: Run) -> None:
    try:
        run.lease.renew()
    except (psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
        log.warning("could not renew the lease of job %s: %s", run.job_id, type(error).__name__)
