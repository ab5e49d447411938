"""Named lines where the tests of faults make a process die, stop or fail. They do nothing unless asked for.

`DUES_FAILPOINTS="relay.after_push=kill:/tmp/a,worker.after_claim=stop:/tmp/b"` names, for each line, what happens
and a marker file. It happens once: to the first process that comes by and makes the file.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass


class FailpointReached(Exception):
    """What the action `raise` raises."""


def _signal(number: signal.Signals) -> Callable[[str], None]:
    return lambda name: os.kill(os.getpid(), number)


def _raise(name: str) -> None:
    raise FailpointReached(name)


_ACTIONS: dict[str, Callable[[str], None]] = {
    "kill": _signal(signal.SIGKILL),
    "stop": _signal(signal.SIGSTOP),
    "term": _signal(signal.SIGTERM),
    "raise": _raise,
}


@dataclass(frozen=True)
class Armed:
    action: str
    marker: str


def parse(text: str) -> dict[str, Armed]:
    """Read `DUES_FAILPOINTS`. Raises: ValueError for one that is not `name=action:marker`."""
    armed = {}
    for entry in filter(None, text.split(",")):
        name, _, what = entry.partition("=")
        action, _, marker = what.partition(":")
        if action not in _ACTIONS or not marker:
            raise ValueError(f"DUES_FAILPOINTS: {entry!r} is not name=action:marker with one of {', '.join(_ACTIONS)}")
        armed[name] = Armed(action, marker)
    return armed


_armed = parse(os.environ.get("DUES_FAILPOINTS", ""))


def failpoint(name: str) -> None:
    """The line `name`."""
    if _armed and (armed := _armed.get(name)):
        try:
            os.close(os.open(armed.marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        _ACTIONS[armed.action](name)
