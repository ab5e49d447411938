"""Reading a receiver's answer, which may be anything: within a bound of bytes, and failing only in ways that are named.

At most READ_BYTES of an answer are read, interim answers and headers included: a chunk of length -1, for example, makes
the library read for as long as the receiver sends.
"""

import re
import socket
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, parse_headers
from io import BufferedReader, RawIOBase
from typing import cast

from dues.clock import now

READ_BYTES = 128 * 1024
# Of the body.
_BODY_BYTES, _SHOWN_CHARACTERS = 2000, 500
_MOST_INTERIM = 20
# Any date is shorter.
_RETRY_AFTER = re.compile(r"[ -~]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Reply:
    """What a receiver answered: `body` is the beginning of it, `retry_after_s` how long it asks to be left alone."""

    status: int
    body: str
    retry_after_s: float


def read_reply(connection: socket.socket, deadline: float) -> Reply:
    """The final answer to a POST; its headers must have come by `deadline` (time.monotonic()), its body need not.

    Raises: OSError; HTTPException for what is not HTTP.
    """
    with closing(_Answer(_Beginning(connection))) as answer:
        try:
            answer.begin()
            # The library takes headers that were cut off for whole ones.
            if time.monotonic() >= deadline:
                raise TimeoutError
            return Reply(answer.status, _beginning(answer), retry_after_s(answer.headers.get("Retry-After", "")))
        except (OSError, HTTPException):
            raise
        except Exception as error:
            # The library has other ways to stumble over nonsense. All of them are the receiver's doing.
            raise HTTPException(type(error).__name__) from error


class _Beginning(RawIOBase):
    """The first READ_BYTES of what a connection receives, and then its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._received = connection.makefile("rb", buffering=0)
        self._left = READ_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._received.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._received.close()
        super().close()

    def makefile(self, mode: str) -> BufferedReader:
        """As a socket does, which is all that HTTPResponse asks of one."""
        return BufferedReader(self)


class _Answer(HTTPResponse):
    """Reads past interim answers (RFC 9110, 15.2), where the library does so for 100 alone. 101 ends HTTP on the
    connection, and so it is the last there is."""

    def __init__(self, received: _Beginning) -> None:
        super().__init__(cast(socket.socket, received), method="POST")
        self._interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status == 101 or status >= 200:
                return version, status, reason
            self._interim += 1
            if self._interim > _MOST_INTERIM:
                raise HTTPException("interim answers without an end")
            parse_headers(self.fp)


def _beginning(answer: HTTPResponse) -> str:
    """The first characters of a body; what cannot be read of it does not matter, since the status has come."""
    with suppress(Exception):
        text = answer.read(_BODY_BYTES).decode("utf-8", "replace")
        return "".join(c for c in text if c.isprintable() or c in "\n\t")[:_SHOWN_CHARACTERS]
    return ""


def retry_after_s(text: str) -> float:
    """What Retry-After asks for: seconds, or a date (RFC 9110, 10.2.3). What is neither asks for nothing."""
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    if _RETRY_AFTER.fullmatch(text):
        # Parsing a date fails in many ways: a year of twenty digits, for one, is an OverflowError.
        with suppress(Exception):
            return max((parsedate_to_datetime(text) - now()).total_seconds(), 0.0)
    return 0.0
