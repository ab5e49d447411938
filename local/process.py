"""Starting a program so that it can be stopped reliably, together with all processes that it has started."""

import contextlib
import ctypes
import http.client
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any

import psutil

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None

# An environment variable of each program, inherited by its children: the run of bin/run, and the program's name.
_MARK = "DUES_RUN"


class CannotStart(Exception):
    """Something that bin/run needs is missing. The message is one line that says what to do."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """How to run one program.

    `account` is the operating system's user it runs as, if not our own. `before()` is called before each start.
    `ready()` tells whether it serves yet. `log` is the file for its output, if it has one.
    """

    name: str
    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    before: Callable[[], None] = lambda: None
    ready: Callable[[], bool] = lambda: True
    log: Path | None = None


class Server:
    """A server, run as a child of this process; for tests. Subclasses implement `prepare()`."""

    _process: subprocess.Popen[bytes] | None = None
    _stop_signal = signal.SIGTERM

    def prepare(self) -> Program:
        """Create missing files. May be called again. Returns: how to run the server. Raises: CannotStart."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server; it is ready when this returns. Raises: CannotStart."""
        program = self.prepare()
        self._stop_signal = program.stop_signal
        self._process = spawn(program)
        try:
            _wait_ready(program, self._process)
        except CannotStart:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what `start()` started."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(self._stop_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
            self.kill()

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that `start()` started."""
        assert self._process is not None
        return self._process.pid


def spawn(program: Program, output: IO[bytes] | int | None = None, run: str = "") -> subprocess.Popen[bytes]:
    """Start `program` as the leader of a new session, so that a Ctrl-C at our terminal reaches only us.

    Its output goes to its log, or else to `output`. On Linux, it gets its stop signal when the thread that called this
    ends, so call this from the main thread.
    """
    program.before()
    with contextlib.ExitStack() as files:
        if program.log is not None:
            output = files.enter_context(_private_log(program.log))
        return subprocess.Popen(
            program.argv,
            env={**program.env, _MARK: f"{run}:{program.name}"},
            cwd=program.cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dies_with_parent(program.stop_signal),  # noqa: PLW1509  (no lock is taken in it)
            **as_account(program.account),
        )


def _private_log(path: Path) -> IO[bytes]:
    """Open a log file for appending, in a private folder, because logs may contain what people typed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path.open("ab")


def as_account(account: str | None) -> dict[str, Any]:
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


def kill_all(run: str, name: str = "") -> None:
    """Kill all processes of a run or, with `name`, of one of its programs, wherever they are in the process tree."""
    mark = f"{run}:{name}"
    # Repeated, because processes may have been started meanwhile.
    for _ in range(5):
        found = [process for process in psutil.process_iter() if _marked(process, mark)]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=5)
        if not found:
            return


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
            return False
        found = process.environ().get(_MARK, "")
    except (psutil.Error, OSError):
        return False
    return found.startswith(mark) if mark.endswith(":") else found == mark


def is_ready(program: Program) -> bool:
    try:
        return program.ready()
    except OSError:
        return False


def answers_ok(connection: http.client.HTTPConnection, path: str) -> bool:
    """Whether a web server answers 200, on a connection that is closed then. Raises: OSError where nothing listens."""
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def last_line(log: Path | None) -> str:
    """The last line of `log`, to be appended to a message."""
    if log is None or not log.exists():
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f": {lines[-1]} (more in {log})" if lines else ""


def _wait_ready(program: Program, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise CannotStart(f"{program.name} ended with {process.returncode} as it started{last_line(program.log)}")
        if is_ready(program):
            return
        time.sleep(0.02)
    raise CannotStart(f"{program.name} did not get ready within {timeout_s:.0f} s{last_line(program.log)}")
