"""Ports on the loopback interface."""

import errno
import random
import socket
import threading
from collections.abc import Iterator
from itertools import islice

_LOOPBACK = "127.0.0.1"
# Below the ports that Linux and macOS use for outgoing connections, which could take ours while a server restarts.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    return why_not(port) is None


def why_not(port: int) -> str | None:
    """Why we cannot listen on `port`, in words that complete "port 80 …"; None if we can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            is_refused = error.errno in (errno.EACCES, errno.EPERM)
            return "is not this user's to listen on (those below 1024 are root's)" if is_refused else "is taken"
        return None


def free_port() -> int:
    """A port of the loopback interface that is free at present, and that was not given before: who was given one may
    not listen on it yet. Raises: OSError if all are taken."""
    with _lock:
        # In any stretch of that length each comes up at least once.
        for port in islice(_order, 2 * len(_RANGE)):
            if is_free(port):
                return port
    raise OSError(errno.EADDRINUSE, f"each port of {_LOOPBACK} from {_RANGE[0]} to {_RANGE[-1]} is taken")


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free at present."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


def _in_any_order() -> Iterator[int]:
    """Each once, before any comes again."""
    while True:
        yield from random.sample(_RANGE, len(_RANGE))


_order, _lock = _in_any_order(), threading.Lock()


def answers(port: int) -> bool:
    """Whether something listens on `port`. Raises: OSError if nothing does."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
