"""Keeps programs running: restarts those that die, and leaves no process behind at the end.

There is one thread and one loop, `_step()`: it prints the programs' output, notices programs that have died, restarts
them when they are due, and raises `Stopped` when a signal has requested the end. All waiting happens there.
"""

import os
import selectors
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from local import folders
from local.process import CannotStart, Program, is_ready, kill_all, last_line, spawn

# A program that ran for a shorter time has failed at start-up, and is restarted after a pause that doubles each time. A
# program that exits by itself may take longer to fail than one that was killed.
_ENDED_AT_ONCE_S = 10.0
_KILLED_AT_ONCE_S = 2.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
# A signal this many seconds after the first one was sent on purpose; an earlier one is the same signal, delivered
# twice.
_AGAIN_S = 1.0
_LONGEST_LINE = 64 * 1024
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """A signal has requested the end."""


@dataclass
class Child:
    """A program and its process, which is None while it is down."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    starting: bool = True
    started: float = 0.0
    due: float = 0.0
    quick_deaths: int = 0
    unfinished_line: bytes = b""


class Supervisor:
    """Runs programs until the `with` block ends, then stops them in reverse order of groups.

    `say` prints one line. `record` is a file that names this run while it lasts, so that the next run can kill what was
    left running if this one dies.
    """

    def __init__(self, say: Callable[[str], None], record: Path, grace_s: float = 30.0) -> None:
        self._say = say
        self._record = record
        self._grace_s = grace_s
        self._run = uuid.uuid4().hex
        self._groups: list[list[Child]] = []
        self._asked_to_stop: float | None = None
        self._stopping = False
        self._is_in_a_hurry = False
        self._selector = selectors.DefaultSelector()
        self._width = 8

    def __enter__(self) -> Self:
        """Handle signals from now on. Processes left behind by an earlier run are killed first."""
        if self._record.exists():
            kill_all(self._record.read_text().strip())
        folders.write_whole(self._record, self._run)
        reader, self._waker = socket.socketpair()
        for end in (reader, self._waker):
            end.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)
        # The death of a child wakes the loop only if there is a handler.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._groups:
            self._end(self._groups.pop())
        kill_all(self._run)
        self._record.unlink(missing_ok=True)

    def keep(self, *programs: Program) -> None:
        """Start `programs` as one group, and keep them running from now on. Raises: CannotStart."""
        children = [Child(program) for program in programs]
        self._groups.append(children)
        for child in children:
            self._spawn(child)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until all started programs are ready.

        Raises: CannotStart if one exits before that or takes too long; Stopped.
        """
        deadline = time.monotonic() + timeout_s
        while starting := [child.program for child in self._children() if self._is_starting(child)]:
            if time.monotonic() > deadline:
                log = starting[0].log
                raise CannotStart(f"{starting[0].name} is not ready after {timeout_s:.0f} s{last_line(log)}")
            self._step(0.05)
        # Print their output so far before the caller prints anything.
        self._step(0.0)

    def complete(self, program: Program) -> None:
        """Run `program` until it exits, and print its output. Raises: CannotStart if it fails; Stopped."""
        process = spawn(program, run=self._run)
        try:
            while process.poll() is None:
                self._step(0.05)
        except Stopped:
            process.terminate()
            raise
        if process.returncode:
            raise CannotStart(f"{program.name} failed with {process.returncode}; what it said is above")

    def watch(self) -> None:
        """Keep everything running until a signal requests the end."""
        try:
            while True:
                self._step(60.0)
        except Stopped:
            return

    def _is_starting(self, child: Child) -> bool:
        if child.starting:
            child.starting = not is_ready(child.program)
        return child.starting

    def _children(self) -> list[Child]:
        return [child for group in self._groups for child in group]

    def _spawn(self, child: Child) -> None:
        output = None if child.program.log else subprocess.PIPE
        child.process = spawn(child.program, output, self._run)
        child.started = time.monotonic()
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def _step(self, longest_s: float) -> None:
        """Wait for an event, at most `longest_s`, and handle it. Raises: Stopped, once per run."""
        due = [child.due for child in self._children() if child.process is None]
        pause = min([longest_s, *(moment - time.monotonic() for moment in due)])
        self._pass_on_output(max(pause, 0.0))
        if self._asked_to_stop is not None and not self._stopping:
            self._stopping = True
            raise Stopped
        for child in self._children():
            if child.process is not None and child.process.poll() is not None:
                self._clean_up(child)
            if child.process is None and child.due <= time.monotonic():
                self._spawn(child)

    def _pass_on_output(self, longest_s: float) -> None:
        for key, _ in self._selector.select(longest_s):
            if isinstance(key.data, Child):
                self._read(key.data)
            else:
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(4096)

    def _read(self, child: Child) -> None:
        """Print the complete lines of a program's output, each after its name."""
        assert child.process is not None
        assert child.process.stdout is not None
        data = os.read(child.process.stdout.fileno(), _LONGEST_LINE)
        *lines, child.unfinished_line = (child.unfinished_line + data).split(b"\n")
        if child.unfinished_line and (not data or len(child.unfinished_line) > _LONGEST_LINE):
            lines.append(child.unfinished_line)
            child.unfinished_line = b""
        for line in lines:
            self._say(f"{child.program.name:<{self._width}} | {line.decode(errors='replace')}")
        if not data:
            self._selector.unregister(child.process.stdout)
            child.process.stdout.close()

    def _clean_up(self, child: Child) -> None:
        """Clean up after a program that has died, kill the processes it has left, and set when to restart it.

        Raises: CannotStart if it had never been ready.
        """
        assert child.process is not None
        kill_all(self._run, child.program.name)
        self._drop_output(child)
        how = _how_it_ended(child.process.returncode)
        if child.starting:
            raise CannotStart(f"{child.program.name} {how} as it started{last_line(child.program.log)}")
        lived = time.monotonic() - child.started
        pause = 0.0
        if lived >= (_ENDED_AT_ONCE_S if child.process.returncode >= 0 else _KILLED_AT_ONCE_S):
            child.quick_deaths = 0
        else:
            pause = min(_FIRST_PAUSE_S * 2 ** (child.quick_deaths - 1), _LONGEST_PAUSE_S) if child.quick_deaths else 0.0
            child.quick_deaths += 1
        child.due = time.monotonic() + pause
        again = f"starting it again in {pause:g} s" if pause else "starting it again"
        self._say(f"{child.program.name} {how}; {again}")
        child.process = None

    def _drop_output(self, child: Child) -> None:
        stdout = child.process.stdout if child.process else None
        while stdout is not None and not stdout.closed:
            try:
                self._read(child)
            except BlockingIOError:
                self._selector.unregister(stdout)
                stdout.close()

    def _end(self, group: list[Child]) -> None:
        """Stop a group: send the stop signal, wait (until the grace period is over or a second signal comes), kill the
        rest."""
        alive = [child for child in group if child.process is not None]
        for child in alive:
            assert child.process is not None
            if child.process.poll() is None:
                child.process.send_signal(child.program.stop_signal)
        deadline = time.monotonic() + self._grace_s
        while any(child.process and child.process.poll() is None for child in alive):
            if time.monotonic() > deadline or self._is_in_a_hurry:
                break
            self._pass_on_output(0.1)
        for child in alive:
            assert child.process is not None
            if child.process.poll() is None:
                self._say(f"{child.program.name} did not end in time: killing it")
                child.process.kill()
            child.process.wait()
            kill_all(self._run, child.program.name)
            self._drop_output(child)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_to_stop is None:
            self._asked_to_stop = now
        elif now - self._asked_to_stop > _AGAIN_S:
            self._is_in_a_hurry = True


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with {returncode}"
    return f"was killed by {signal.Signals(-returncode).name}"


def read_procfile(path: Path, names: Sequence[str], env: dict[str, str]) -> list[Program]:
    """The programs of a Procfile with these `names`, in that order. Raises: CannotStart if one is missing."""
    lines = [line.partition(":") for line in path.read_text().splitlines() if line.strip() and line[0] != "#"]
    commands = {name.strip(): command.strip() for name, _, command in lines}
    missing = [name for name in names if name not in commands]
    if missing:
        raise CannotStart(f"{path} has no {', '.join(missing)}")
    return [
        Program(name=name, argv=["/bin/sh", "-c", f"exec {commands[name]}"], cwd=path.parent, env=env) for name in names
    ]
