"""Kinds of jobs that only tests have, with handlers that say in a file what they do."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from dues.jobs import Kind, PermanentFailure, Retry, Run
from workers.job import job

NOTE = Kind("test.note", "default")
WAIT = Kind("test.wait", "default", cancelable=True, timeout_s=60)
FAIL = Kind("test.fail", "default", max_attempts=3)
OVERTIME = Kind("test.overtime", "default", timeout_s=1)
THREADED = Kind("test.threaded", "webhooks", timeout_s=60, cancelable=True)
THREADED_NOTE = Kind("test.threaded.note", "webhooks")
FORKED = Kind("test.forked", "slow", timeout_s=60, cancelable=True, forked=True)
FORKED_FAIL = Kind("test.forked.fail", "slow", forked=True)
FORKED_DEAF = Kind("test.forked.deaf", "slow", timeout_s=1, forked=True)


@job(THREADED_NOTE)
@job(NOTE)
def note(run: Run, file: str, word: str = "done") -> dict[str, Any]:
    with Path(file).open("a") as notes:
        notes.write(f"{word} {run.attempt} {os.getpid()}\n")
    return {"attempt": run.attempt}


@job(THREADED)
@job(FORKED)
@job(WAIT)
def wait(run: Run, file: str) -> dict[str, Any]:
    """Begin, wait until the test makes a file, and be done."""
    note(run, file, "began")
    while not Path(f"{file}.go").exists():
        run.progress(1, 2, "steps")
        time.sleep(0.01)
    return note(run, file)


@job(FORKED_FAIL)
@job(FAIL)
def fail(run: Run, how: str) -> None:
    match how:
        case "retry":
            raise Retry(after_s=30, problem="come back later")
        case "permanent":
            raise PermanentFailure("no use")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "unforeseen":
            raise ConnectionError("smtp://user:secret@mail")


@job(OVERTIME)
def overtime(run: Run) -> None:
    try:
        time.sleep(30)
    except Exception:
        raise AssertionError("a time limit must not be caught by accident") from None


@job(FORKED_DEAF)
def deaf(run: Run, file: str) -> None:
    """Not even the alarm stops it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    note(run, file, "began")
    time.sleep(60)
