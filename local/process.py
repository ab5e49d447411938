"""Starting a program so that it, and all it starts, can be ended for certain."""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class CannotStart(Exception):
    """Something bin/run needs is not to be had; the message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to run one long-lived program.

    `ready()` tells whether it serves yet; it may raise OSError while it does not.
    `account` is the operating system's user it runs as, where that is not our own.
    `log` is the file its output goes to, where that is not our own output.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    ready: Callable[[], bool] = lambda: True
    log: Path | None = None


def spawn(program: Program, output: IO[bytes] | int | None = None) -> subprocess.Popen[bytes]:
    """Start `program` as the leader of a session of its own, so that a Ctrl-C at our terminal reaches us alone.

    On Linux it is sent its stop signal when the thread that called this ends: call from the main thread.
    """
    return subprocess.Popen(
        program.argv,
        env=dict(program.env),
        cwd=program.cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        preexec_fn=_dies_with_parent(program.stop_signal),  # noqa: PLW1509  (we have no threads while we spawn)
        **as_account(program.account),  # type: ignore[call-overload]
    )


def as_account(account: str | None) -> dict[str, object]:
    """Arguments of `subprocess` that run a program as `account`; none for None."""
    if account is None:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dies_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    if _libc is None:
        return None
    parent = os.getpid()

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, where Linux allows: none can slip away."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans(known: Iterable[int]) -> list[psutil.Process]:
    """Our direct children that are not `known`: what a program of ours left behind when it died."""
    known = set(known)
    return [child for child in psutil.Process().children() if child.pid not in known]


def kill_session(pid: int) -> None:
    """Kill what is left of the session that process `pid` led or leads."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == pid:
                process.kill()


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals = signal.SIGTERM, grace_s: float = 30.0) -> None:
    """Ask `process` to stop, and kill it and its session when it has not within `grace_s`."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    kill_session(process.pid)
    process.wait()


def wait_ready(program: Program, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    """Wait until `program` serves.

    Raises: CannotStart when it ends before it does, or takes longer than `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStart(f"{program.name} ended with {process.returncode} as it started{_last_line(program.log)}")
        if is_ready(program):
            return
        time.sleep(0.02)
    raise CannotStart(f"{program.name} did not get ready within {timeout_s:.0f} s{_last_line(program.log)}")


def is_ready(program: Program) -> bool:
    try:
        return program.ready()
    except OSError:
        return False


def _last_line(log: Path | None) -> str:
    """The last thing said in `log`, to be appended to a message."""
    if log is None or not log.exists():
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1]} (more in {log})" if lines else ""
