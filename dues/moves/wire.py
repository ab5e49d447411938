"""What the two ends of a move say to each other: messages of JSON, and streams of bytes between them, over the standard
input and output of a command that `flask stores move` starts (`flask stores receive`, through ssh say).

    1 byte: J, a message, or D, a piece of a stream | 4: its length | the bytes      an empty D ends a stream
"""

import json
import shlex
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import IO, Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

# What a word comes with. Nothing else is read of what the other end says, which may not be `flask stores` at all: keys
# become paths of files, and an address goes into answers and into the configuration of gateways.
_Text = Annotated[str, Meta(max_length=200)]
_Key = Annotated[
    str, Meta(pattern=r"^(reports|imports)(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}){1,2}(/refused)?/[0-9A-Za-z.]+\Z")
]
_Address = Annotated[str, Meta(pattern=r"^https?://[0-9A-Za-z.:\[\]-]+(/[0-9A-Za-z._~/-]*)?\Z")]
_Cell = Annotated[str, Meta(pattern=r"^([a-z][a-z0-9-]{0,30})?\Z")] | None
_FACTS: dict[str, dict[str, Any]] = {
    "hello": {
        "store_id": UUID,
        "move_id": UUID,
        "slug": _Text,
        "revision": _Text,
        "columns": dict[str, list[str]],
        "secret_key": Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")],
        "secrets_keys": list[str],
        "public_url": _Address | None,
        "has_cells": bool | None,
        "cell": _Cell,
    },
    "ask": {"store_id": UUID, "move_id": UUID},
    "answer": {"has_arrived": bool},
    "welcome": {"address": _Address, "has_cells": bool | None, "cell": _Cell},
    "files": {"keys": list[_Key]},
    "digests": {"digests": dict[str, tuple[int, str, str]]},
    "refused": {"why": str},
}
_HEAD = struct.Struct("!cI")
_LONGEST = 64 * 1024 * 1024
_ENDS_S = 30.0


class Lost(Exception):
    """The other end has gone away, or says what makes no sense here."""


class Refused(Exception):
    """The store cannot be moved so; the message says why."""


class Wire:
    """One end."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink

    def tell(self, word: str, **facts: Any) -> None:
        """Raises: Lost."""
        self._send(b"J", json.dumps({"word": word, **facts}).encode())
        self._flush()

    def hear(self, *words: str) -> dict[str, Any]:
        """The next message, whose word is one of these. Raises: Refused, where the other end refuses; Lost."""
        kind, data = self._receive()
        if kind != b"J":
            raise Lost("rows came where a word was expected")
        try:
            said = msgspec.json.decode(data, type=dict[str, Any])
            word = msgspec.convert(said.get("word"), _Text)
            facts = {name: msgspec.convert(said.get(name), kind) for name, kind in _FACTS.get(word, {}).items()}
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Lost(f"what came is no message of `flask stores`: {error}") from None
        if word == "refused":
            raise Refused(facts["why"])
        if word not in words:
            raise Lost(f"{word!r} came, and not {' or '.join(words)}")
        return {"word": word, **facts}

    def write(self, data: bytes) -> int:
        """A piece of a stream, of any length but none. What `copy_expert()` calls. Raises: Lost."""
        if data:
            self._send(b"D", bytes(data))
        return len(data)

    def hang_up(self) -> None:
        """Say no more."""
        with suppress(OSError, ValueError):
            self._sink.close()

    def end_stream(self) -> None:
        self._send(b"D", b"")

    def stream(self) -> Iterator[bytes]:
        """The pieces of a stream, to its end. Raises: Lost."""
        while True:
            kind, data = self._receive()
            if kind != b"D":
                raise Lost("a word came in the middle of rows")
            if not data:
                return
            yield data

    def _send(self, kind: bytes, data: bytes) -> None:
        try:
            self._sink.write(_HEAD.pack(kind, len(data)) + data)
        except (OSError, ValueError) as error:
            raise Lost("the other end has gone away") from error

    def _flush(self) -> None:
        try:
            self._sink.flush()
        except (OSError, ValueError) as error:
            raise Lost("the other end has gone away") from error

    def _receive(self) -> tuple[bytes, bytes]:
        kind, length = _HEAD.unpack(self._read(_HEAD.size))
        if kind not in (b"J", b"D") or length > _LONGEST:
            raise Lost("what came is not of `flask stores receive`: does the command print anything else?")
        return kind, self._read(length)

    def _read(self, count: int) -> bytes:
        try:
            data = self._source.read(count)
        except (OSError, ValueError) as error:
            raise Lost("the other end has gone away") from error
        if len(data) < count:
            raise Lost("the other end has gone away")
        return data


class Incoming:
    """A stream as a file that `copy_expert()` reads."""

    def __init__(self, wire: Wire) -> None:
        self._pieces, self._rest = wire.stream(), b""

    def read(self, size: int = -1) -> bytes:
        """Some bytes, at most `size`; none at the stream's end."""
        if not self._rest:
            self._rest = next(self._pieces, b"")
        if size < 0:
            size = len(self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Command:
    """The other end, as a command that is run for the length of a `with` block. What it says on its standard error is
    shown with ours."""

    def __init__(self, command: str) -> None:
        self._argv = shlex.split(command)
        if not self._argv:
            raise Refused("no command is named that receives the store")

    def __enter__(self) -> Wire:
        try:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise Refused(f"{self._argv[0]} cannot be run: {error.strerror}") from error
        assert self._process.stdin
        assert self._process.stdout
        return Wire(self._process.stdout, self._process.stdin)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def refusing(wire: Wire) -> Iterator[None]:
    """Tell the other end of what is refused here."""
    try:
        yield
    except Refused as refused:
        with suppress(Lost):
            wire.tell("refused", why=str(refused))
        raise


@contextmanager
def hearing_why(wire: Wire) -> Iterator[None]:
    """Where the other end is lost in the block, because it refused while we were still sending: the reason. Raises:
    Refused; Lost."""
    try:
        yield
    except Lost:
        # One that still waits for us ends by this, and is not waited for.
        wire.hang_up()
        wire.hear("refused")
        raise
