"""HTTP/1.1 as RFC 9112 writes it: the head of a request, and how its body is framed.

What this parser does not accept to the letter is refused, and the connection closed: another server of the same chain
might read it in another way. That holds for folded lines, a bare CR or LF, blanks before a colon, two lengths, a length
beside chunks, and codings other than `chunked`. Each pattern takes time linear in what it is given.
"""

import re
from typing import NamedTuple

from api.request import Fields, read_fields
from dues.errors import BadRequest, HeadersTooLarge, UnknownCoding, UnknownVersion, UriTooLong

# The most bytes of a request line, of a whole head, and of all that frames a chunked body: sizes, extensions, trailers.
LONGEST_LINE, LARGEST_HEAD, LARGEST_FRAMING = 8192, 32_768, 8192
MOST_FIELDS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELDS = re.compile(rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*")
_HOST = re.compile(r"[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")


class Head(NamedTuple):
    """`target` is as it was sent. `length` is the body's in bytes, or None where it comes in chunks. `keep`: whether
    the connection may be used again; `expects`: whether the client waits for 100 (Continue) before it sends the body;
    `is_old`: whether it speaks HTTP/1.0.
    """

    method: str
    target: str
    fields: Fields
    length: int | None
    keep: bool
    expects: bool
    is_old: bool


def check_partial(data: bytes | bytearray) -> None:
    """Refuse what has come of a head, before it is whole, where it is too long already.

    Raises: UriTooLong, HeadersTooLarge.
    """
    if len(data) > LONGEST_LINE and data.find(b"\r\n", 0, LONGEST_LINE + 2) < 0:
        raise UriTooLong(f"a request line may have at most {LONGEST_LINE} bytes")
    if len(data) > LARGEST_HEAD:
        raise HeadersTooLarge(f"the fields of a request may have at most {LARGEST_HEAD} bytes together")


def parse_head(data: bytes) -> Head:
    """Parse a head, from its request line to the end of its last field's line.

    Raises: BadRequest, UriTooLong, HeadersTooLarge, UnknownCoding, UnknownVersion.
    """
    end = data.find(b"\r\n")
    if end > LONGEST_LINE:
        raise UriTooLong(f"a request line may have at most {LONGEST_LINE} bytes")
    if len(data) > LARGEST_HEAD:
        raise HeadersTooLarge(f"the fields of a request may have at most {LARGEST_HEAD} bytes together")
    line = _LINE.fullmatch(data, 0, end)
    if line is None or not _FIELDS.fullmatch(data, end + 2):
        raise BadRequest("this is not HTTP/1.1", code="malformed_request")
    if line[1] != line[1].upper():
        raise BadRequest("a method is written in capitals", code="malformed_request")
    if line[3] != b"1":
        raise UnknownVersion("only HTTP/1.1 is supported")
    if data.count(b"\r\n") > MOST_FIELDS + 1:
        raise HeadersTooLarge(f"a request may have at most {MOST_FIELDS} fields")
    fields = read_fields(data[end + 2 :].decode("latin-1"))
    is_new = line[4] != b"0"
    _require_host(fields, is_new)
    connection = fields.get("connection")
    keep = is_new and (connection is None or "close" not in re.split(r"[ \t,]+", connection.lower()))
    expects = is_new and fields.get("expect", "").lower() == "100-continue"
    return Head(line[1].decode(), line[2].decode(), fields, _length(fields, is_new), keep, expects, not is_new)


def _require_host(fields: Fields, is_new: bool) -> None:
    """RFC 9112, 3.2."""
    host = fields.get("host")
    if (host is None and is_new) or not _HOST.fullmatch(host or ""):
        raise BadRequest("a request has one Host field", code="malformed_request")


def _length(fields: Fields, is_new: bool) -> int | None:
    """RFC 9112, 6.3: of a request, which has no body unless it says so."""
    coding, length = fields.get("transfer-encoding"), fields.get("content-length")
    if coding is None:
        if length is None:
            return 0
        if not _LENGTH.fullmatch(length):
            raise BadRequest("Content-Length is not a number", code="malformed_request")
        return int(length)
    if length is not None or not is_new:
        raise BadRequest("the length of the body is told in two ways", code="malformed_request")
    if coding.lower() != "chunked":
        raise UnknownCoding("Transfer-Encoding may be chunked and nothing else")
    return None


class SizedBody:
    """Takes a body of so many bytes from what has come."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_whole = not length

    def feed(self, data: bytearray) -> bytes:
        """Take what can be taken from the beginning of `data`, and return what it holds of the body."""
        part = bytes(data[: self._left])
        del data[: len(part)]
        self._left -= len(part)
        self.is_whole = not self._left
        return part


class ChunkedBody:
    """Takes a chunked body apart (RFC 9112, 7.1). Extensions and trailers are read and dropped."""

    def __init__(self) -> None:
        self._left = 0
        self._framing = 0
        self._state = _SIZE
        self.is_whole = False

    def feed(self, data: bytearray) -> bytes:
        """Take what can be taken from the beginning of `data`, and return what it holds of the body.

        Raises: BadRequest, HeadersTooLarge.
        """
        parts = []
        while not self.is_whole:
            if self._state == _DATA:
                if not data:
                    break
                part = bytes(data[: self._left])
                del data[: len(part)]
                parts.append(part)
                self._left -= len(part)
                if not self._left:
                    self._state = _END
                continue
            end = data.find(b"\r\n")
            if self._framing + (len(data) if end < 0 else end) > LARGEST_FRAMING:
                raise HeadersTooLarge("what frames the body's chunks is too long")
            if end < 0:
                if self._state == _END and not b"\r\n".startswith(data[:2]):
                    raise _malformed()
                break
            line = bytes(data[:end])
            del data[: end + 2]
            self._take(line)
        return b"".join(parts)

    def _take(self, line: bytes) -> None:
        if self._state == _END:
            if line:
                raise _malformed()
            self._state = _SIZE
        elif self._state == _SIZE:
            size = _CHUNK.fullmatch(line)
            if size is None:
                raise _malformed()
            # The digits of a size are paid for by what it announces; all else is overhead.
            self._framing += len(line) - len(size[1])
            self._left = int(size[1], 16)
            self._state = _DATA if self._left else _TRAILERS
        elif line:
            if not _TRAILER.fullmatch(line):
                raise _malformed()
            self._framing += len(line) + 2
        else:
            self.is_whole = True


_SIZE, _DATA, _END, _TRAILERS = range(4)


def _malformed() -> BadRequest:
    return BadRequest("the chunks of the body are malformed", code="malformed_request")


def cut_off() -> BadRequest:
    """Of a client that has closed its side in the middle of a body."""
    return BadRequest("the body ended before its end", code="malformed_request")
