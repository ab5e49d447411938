"""Redis's wire protocol, as much of it as the cache needs: addresses, commands, replies, and a pool for threads.

A client of our own, because truth hangs on three things: a connection is bound to one life of the server
(`run_id`), one whose call ran out of time is closed and never reads another reply, and nothing is sent twice
unseen. A round trip also costs a fifth of the CPU that redis-py takes for one.
"""

import contextlib
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar, cast

from urls import RedisUrl, read_redis_url

Word = bytes | str | int
Command = Sequence[Word]

_RECEIVE_BYTES = 65536
# How much of a server's run_id goes into names: 64 of its 160 random bits.
_RUN_ID_LETTERS = 16


class CacheAway(Exception):
    """Redis did not answer, in time or at all, or refused: nothing is known of what became of the call."""


class ReplyError(Exception):
    """Redis refused a command; the message is its own."""


Reply: TypeAlias = "bytes | int | list[Reply] | ReplyError | None"


class Address(RedisUrl):
    """Where a Redis is, and what it is greeted with."""

    __slots__ = ()

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Raises: ValueError for a URL that names no Redis; its message never holds the password."""
        return cls(*read_redis_url(url))

    def greeting(self, scripts: Sequence[bytes]) -> list[Command]:
        """What is said first on a connection: who we are, who the server is, and the scripts, to be called by SHA-1."""
        commands: list[Command] = []
        if self.password:
            commands.append(("AUTH", self.username or "default", self.password))
        if self.db:
            commands.append(("SELECT", self.db))
        commands += [("SCRIPT", "LOAD", script) for script in scripts]
        commands.append(("INFO", "server"))
        return commands


def encode(commands: Sequence[Command]) -> bytes:
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            if isinstance(word, bytes):
                parts += (b"$%d\r\n" % len(word), word, b"\r\n")
            elif (text := str(word)).isascii():
                # Text is put together in half the time that bytes take.
                parts.append(f"${len(text)}\r\n{text}\r\n".encode())
            else:
                data = text.encode()
                parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


class Replies:
    """Takes bytes as they arrive and gives whole replies (RESP 2)."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def has_more(self) -> bool:
        """Whether something has come that was not taken."""
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        self._data += data

    def take(self, count: int) -> list[Reply] | None:
        """The next `count` replies, or None while they are not all there. Raises: CacheAway for what is no reply."""
        replies: list[Reply] = []
        position = 0
        try:
            for _ in range(count):
                reply, position = _parse(self._data, position)
                replies.append(reply)
        except _IncompleteError:
            return None
        except (ValueError, OverflowError, RecursionError) as error:
            # A length that is no number, or of more than there can be, or arrays in arrays without end.
            raise CacheAway(_NO_REDIS) from error
        self._data = self._data[position:]
        return replies


# The most items that a reply of our scripts to one request has.
_SCRIPTS_REPLY = 4


_NO_REDIS = "what answers is no Redis"
# The numbers that Redis has.
_LEAST, _MOST = -(2**63), 2**63 - 1


class _IncompleteError(Exception):
    """The reply's end has not arrived."""


def _strings(data: bytes, position: int, count: int) -> "tuple[list[Reply], int] | None":
    """An array's items where all are strings without a line's end in them, as nearly all are: taken apart by one
    split, in a third of the time. None where they are not, or not all there."""
    *words, rest = data[position:].split(b"\r\n", 2 * count)
    items = words[1::2]
    if len(words) != 2 * count or words[::2] != [b"$%d" % len(item) for item in items]:
        return None
    return cast("list[Reply]", items), len(data) - len(rest)


def _parse(data: bytes, position: int) -> tuple[Reply, int]:  # noqa: PLR0911  (one for each kind)
    end = data.find(b"\r\n", position)
    if end < 0:
        raise _IncompleteError
    kind, line, position = data[position : position + 1], data[position + 1 : end], end + 2
    if kind == b"$":
        length = int(line)
        if length < 0:
            return None, position
        if len(data) < position + length + 2:
            raise _IncompleteError
        return data[position : position + length], position + length + 2
    if kind == b"*":
        count = int(line)
        if count < 0:
            return None, position
        # What a script replies, which is short, holds numbers as well.
        if count > _SCRIPTS_REPLY and (strings := _strings(data, position, count)):
            return strings
        items: list[Reply] = []
        for _ in range(count):
            item, position = _parse(data, position)
            items.append(item)
        return items, position
    if kind == b":":
        number = int(line)
        if not _LEAST <= number <= _MOST:
            raise CacheAway(_NO_REDIS)
        return number, position
    if kind == b"+":
        return line, position
    if kind == b"-":
        return ReplyError(line.decode(errors="replace")), position
    raise CacheAway(_NO_REDIS)


def run_id_of(greeted: Sequence[Reply]) -> str:
    """The server's run_id, from the replies to a greeting. Raises: CacheAway when the server refused us."""
    for reply in greeted:
        if isinstance(reply, ReplyError):
            raise CacheAway(str(reply))
    info = greeted[-1]
    found = info.partition(b"run_id:")[2].split(b"\r\n")[0] if isinstance(info, bytes) else b""
    if not found:
        raise CacheAway("INFO names no run_id")
    return found.decode(errors="replace")[:_RUN_ID_LETTERS]


class Connection:
    """One connection of a thread. Whatever goes wrong on it, it is closed: half a call's replies must never be
    taken for another's.

    The kernel keeps the time, by socket options that are set once: Python's own time-outs cost three system calls
    more a round trip, around each of which other threads take the interpreter away.
    """

    def __init__(self, address: Address, scripts: Sequence[bytes], timeout_s: float) -> None:
        """Raises: CacheAway."""
        self._replies = Replies()
        self._owed = 0
        try:
            self._socket = _connect(address, timeout_s)
        except OSError as error:
            raise CacheAway(f"no connection: {error}") from error
        self._timeout_s = 0.0
        greeted = self.call(address.greeting(scripts), timeout_s)
        try:
            self.run_id = run_id_of(greeted)
        except CacheAway:
            self.close()
            raise

    def call(self, commands: Sequence[Command], timeout_s: float) -> list[Reply]:
        """Send all, then read all the answers, for which there is `timeout_s`, in however many parts they come.

        Raises: CacheAway, caused by a TimeoutError when time ran out.
        """
        if not commands:
            return []
        try:
            self._send(commands, timeout_s)
            deadline = time.monotonic() + timeout_s
            while True:
                data = self._socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise ConnectionResetError("Redis closed the connection")
                self._replies.feed(data)
                replies = self._replies.take(self._owed + len(commands))
                if replies is not None:
                    owed, self._owed = self._owed, 0
                    return replies[owed:]
                self._wait_until(deadline)
        except OSError as error:
            raise self._lost(error) from _cause(error)
        except BaseException:
            self.close()
            raise

    @property
    def has_more(self) -> bool:
        """Whether more has come than was asked for, which the next call would take for its reply."""
        return self._replies.has_more

    def tell(self, commands: Sequence[Command], timeout_s: float) -> None:
        """Send all and wait for no answer; the next call reads past them. Raises: CacheAway."""
        try:
            self._send(commands, timeout_s)
        except OSError as error:
            raise self._lost(error) from _cause(error)
        self._owed += len(commands)

    def _send(self, commands: Sequence[Command], timeout_s: float) -> None:
        if timeout_s != self._timeout_s:
            self._timeout_s = timeout_s
            _limit(self._socket, timeout_s)
        self._socket.sendall(encode(commands))

    def _wait_until(self, deadline: float) -> None:
        """Have the rest of what came in part waited for until then. Raises: TimeoutError where it is over."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(_LATE)
        # The next call sets its own time.
        self._timeout_s = 0.0
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _interval(left_s))

    def _lost(self, error: OSError) -> CacheAway:
        self.close()
        return CacheAway(_LATE if isinstance(error, _OUT_OF_TIME) else str(error) or type(error).__name__)

    def close(self) -> None:
        self._socket.close()


_LATE = "Redis did not answer in time"
# What a socket says once the time that the kernel keeps is over; one of TLS says it in its own words.
_OUT_OF_TIME = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, TimeoutError)


def _cause(error: OSError) -> OSError:
    return TimeoutError(_LATE) if isinstance(error, _OUT_OF_TIME) else error


def _limit(connection: socket.socket, timeout_s: float) -> None:
    """Bound each receiving and sending."""
    interval = _interval(timeout_s)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)


def _interval(seconds: float) -> bytes:
    """As the kernel takes it, for which none at all is without end."""
    return struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1_000_000)))


def _connect(address: Address, timeout_s: float) -> socket.socket:
    """A connected socket without a time-out of Python's."""
    if address.path:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(address.path)
        except OSError:
            connection.close()
            raise
    else:
        connection = socket.create_connection((address.host, address.port), timeout=timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.tls:
        try:
            connection = ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)
        except OSError:
            connection.close()
            raise
    connection.settimeout(None)
    return connection


T = TypeVar("T")
Commands = Callable[[Connection], Sequence[Command]]


def _as_they_are(replies: list[Reply]) -> list[Reply]:
    return replies


class Pool:
    """Connections of a process's threads, as many as ever were in use at once."""

    def __init__(self, address: Address, scripts: Sequence[bytes]) -> None:
        self._address, self._scripts = address, scripts
        self._idle: deque[Connection] = deque()
        # A child must not speak on its parent's connections.
        os.register_at_fork(after_in_child=self.close)

    def ask(self, commands: Commands, timeout_s: float) -> list[Reply]:
        """The replies themselves: see `ask_for()`."""
        return self.ask_for(commands, timeout_s, _as_they_are)

    def ask_for(self, commands: Commands, timeout_s: float, understand: Callable[[list[Reply]], T]) -> T:
        """Make one call with the commands that `commands` writes for the connection (names hold its run_id), and
        return what `understand` makes of the replies. Where it raises, for what is no reply to the question, the
        connection is closed: what came on it may be another's, and so may all that follows.

        A connection that was lost while it lay idle, or whose replies are not understood, is replaced once, and
        `commands` asked again: the call may then run twice. Raises: CacheAway when not every command was carried out
        within `timeout_s`.
        """
        try:
            connection = self._idle.pop()
        except IndexError:
            return self._ask_anew(commands, timeout_s, understand)
        try:
            return self._finish(connection, connection.call(commands(connection), timeout_s), understand)
        except CacheAway as error:
            if isinstance(error.__cause__, TimeoutError | ReplyError):
                raise
            # Whatever broke this connection has broken the others, too.
            self.close()
            return self._ask_anew(commands, timeout_s, understand)

    def tell(self, commands: Sequence[Command], timeout_s: float) -> None:
        """Send commands whose answers nobody needs. Raises: CacheAway."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self._address, self._scripts, timeout_s)
        connection.tell(commands, timeout_s)
        self._idle.append(connection)

    def _ask_anew(self, commands: Commands, timeout_s: float, understand: Callable[[list[Reply]], T]) -> T:
        connection = Connection(self._address, self._scripts, timeout_s)
        return self._finish(connection, connection.call(commands(connection), timeout_s), understand)

    def _finish(self, connection: Connection, replies: list[Reply], understand: Callable[[list[Reply]], T]) -> T:
        refusals = [reply for reply in replies if isinstance(reply, ReplyError)]
        if any(str(refusal).startswith("NOSCRIPT") for refusal in refusals):
            connection.close()
            raise CacheAway("the scripts of this connection's greeting are forgotten")
        if refusals:
            self._idle.append(connection)
            raise CacheAway(str(refusals[0])) from refusals[0]
        try:
            understood = understand(replies)
        except BaseException:
            connection.close()
            raise
        if connection.has_more:
            connection.close()
        else:
            self._idle.append(connection)
        return understood

    def close(self) -> None:
        """Close what lies idle."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()
