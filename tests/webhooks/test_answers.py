"""What a receiver sends may be anything: it becomes an answer or one of the failures that are foreseen."""

import socket
import threading
import time
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPException

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dues.webhooks.answers import READ_BYTES, Reply, read_reply, retry_after_s

pytestmark = pytest.mark.unit

LATER = format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def read(sent: bytes) -> Reply:
    """The answer of a receiver that sends `sent` and hangs up."""
    ours, theirs = socket.socketpair()
    with closing(ours):
        sender = threading.Thread(target=_send, args=(theirs, sent), daemon=True)
        sender.start()
        try:
            return read_reply(ours, time.monotonic() + 60)
        finally:
            ours.close()
            sender.join()


def _send(theirs: socket.socket, sent: bytes) -> None:
    with closing(theirs), suppress(OSError):
        theirs.sendall(sent)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (OK, 200),
        (b"HTTP/1.0 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 299\n\n", 299),
        # Interim answers, one or more, with headers or without.
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200),
        (b"HTTP/1.1 102 Processing\r\n\r\n" + OK, 200),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nRetry-After: 99\r\n\r\n" + OK, 200),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + OK, 200),
        (b"HTTP/1.1 199 What\r\n\r\n" * 20 + b"HTTP/1.1 503 No\r\n\r\n", 503),
        # The end of HTTP on this connection.
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + OK, 101),
        # The status has come, whatever follows.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 200),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nbad", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", 200),
        ("HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\nok".encode(), 200),
    ],
)
def test_the_final_status_counts(sent: bytes, status: int):
    assert read(sent).status == status


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/1.1 twohundred OK\r\n\r\n",
        b"220 smtp.example.com ESMTP\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 21 + OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000 + OK,
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_told_so(sent: bytes):
    with pytest.raises((OSError, HTTPException)):
        read(sent)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b"HTTP/1.1 200 OK\r\nA: b"]
)
def test_no_more_is_read_than_is_needed(head: bytes):
    """A chunk of length -1 has the library read to the end, wherever that is."""
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sent: list[int] = []

        def flood() -> None:
            with suppress(OSError):
                theirs.sendall(head)
                for _ in range(10_000):
                    sent.append(theirs.send(b"x" * 65_536))

        sender = threading.Thread(target=flood, daemon=True)
        sender.start()
        with suppress(OSError, HTTPException):
            read_reply(ours, time.monotonic() + 60)
        ours.close()
        sender.join(60)
    assert sum(sent) < READ_BYTES + 1_000_000


_STATUS = st.one_of(
    st.integers(0, 999).map(str), st.sampled_from(["100", "102", "200", "204", "503"]), st.text(max_size=5)
)
_NAMES = st.sampled_from(["Retry-After", "Content-Length", "Transfer-Encoding", "Connection", "Content-Type", "X", ""])
_VALUES = st.one_of(
    st.text(max_size=80),
    st.integers().map(str),
    st.sampled_from(["chunked", "close", "Thu, 01 Jan 99999999999999999999 00:00:00 GMT", "-1", "1" * 5000]),
)
_HEADERS = st.lists(st.tuples(_NAMES, _VALUES), max_size=5)
_BODIES = st.one_of(
    st.binary(max_size=200), st.sampled_from([b"-1\r\nx", b"ffffffffffffffffffff\r\nx", b"2\r\nok\r\n0\r\n\r\n"])
)


@st.composite
def _answers(draw: st.DrawFn) -> bytes:
    """What looks more or less like an answer, or a few of them."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        lines = [f"HTTP/1.1 {draw(_STATUS)} {draw(st.text(max_size=5))}", *(f"{n}: {v}" for n, v in draw(_HEADERS))]
        parts.append(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogatepass") + draw(_BODIES))
    return b"".join(parts)


@settings(max_examples=150, deadline=None)
@given(st.one_of(_answers(), st.binary(max_size=500)))
@example(b"HTTP/1.1 200 OK\r\nRetry-After: Thu, 01 Jan 99999999999999999999 00:00:00 GMT\r\n\r\n")
def test_nothing_that_is_sent_fails_in_a_way_nobody_foresaw(sent: bytes):
    with suppress(OSError, HTTPException):
        reply = read(sent)
        assert 100 <= reply.status <= 999
        assert len(reply.body) <= 500
        assert "\0" not in reply.body
        assert 0 <= reply.retry_after_s < 1e12


_WORDS = st.lists(
    st.sampled_from("Thu, 01 Jan 2026 00:00:00 GMT -0000 +9999 99999999999999 :: 1e9 ,".split()), max_size=9
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(st.text(max_size=100), _WORDS.map(" ".join), st.integers().map(str), st.datetimes().map(format_datetime))
)
@example("Thu, 01 Jan 99999999999999999999 00:00:00 GMT")
@example("Thu, 01 Jan 9999 23:59:59 -9999")
@example("1" * 5000)
def test_retry_after_of_any_text_is_a_time_to_wait(text: str):
    assert 0 <= retry_after_s(text) < 1e12


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("120", 120, 120), pytest.param(LATER, 7200, 10800, id="a date"), ("-1", 0, 0), ("soon", 0, 0), ("", 0, 0)],
)
def test_retry_after_is_seconds_or_a_date(text: str, least: float, most: float):
    assert least <= retry_after_s(text) <= most
