"""Between the kernel and the application: what is read from a connection, what is refused, and what is bounded.

A handler that tells what it was given stands in for the application; bytes go over real sockets.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from api.server import connections as connections_module
from api.server import exchange as exchange_module
from api.server import protocol
from api.server.http1 import LARGEST_HEAD, LONGEST_LINE, MOST_FIELDS
from tests.api.server.teller import Client, Teller, ask


@pytest.fixture
def teller() -> Iterator[Teller]:
    with Teller() as teller:
        yield teller


GET = b"GET /v1/x?a=1 HTTP/1.1\r\nHost: h\r\n"
POST = b"POST /v1/x HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

# What is sent, and the statuses of all that is answered to it. Chapters are RFC 9112's, unless said otherwise.
CASES = {
    "a request": (GET + b"\r\n", [200]),
    "2.2 an empty line before it": (b"\r\n" + GET + b"\r\n", [200]),
    "2.2 a bare LF": (b"GET / HTTP/1.1\nHost: h\n\n\r\n\r\n", [400]),
    "2.2 a bare LF among lines": (GET + b"X-A: 1\nX-B: 2\r\n\r\n", [400]),
    "2.2 a bare CR": (GET + b"X-A: 1\rX-B: 2\r\n\r\n", [400]),
    "2.2 a blank line of blanks": (GET + b" \r\n\r\n", [400]),
    "2.3 HTTP/1.0": (b"GET /v1/x HTTP/1.0\r\n\r\n", [200]),
    "2.3 HTTP/2.0": (b"GET /v1/x HTTP/2.0\r\nHost: h\r\n\r\n", [505]),
    "2.3 HTTP/0.9": (b"GET /v1/x\r\n\r\n", [400]),
    "3 two blanks": (b"GET  /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "3 a tab": (b"GET\t/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "3.1 a method of our own": (b"FROB /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [200]),
    "3.1 no method": (b"G=T /v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "3.2 no Host": (b"GET /v1/x HTTP/1.1\r\n\r\n", [400]),
    "3.2 two Hosts": (GET + b"Host: i\r\n\r\n", [400]),
    "3.2 a Host that is none": (b"GET /v1/x HTTP/1.1\r\nHost: a b\r\n\r\n", [400]),
    "3.2 bytes beyond ASCII": (b"GET /v1/\xc3\xbc HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "3.2.2 absolute form": (b"GET http://other/v1/x HTTP/1.1\r\nHost: h\r\n\r\n", [200]),
    "3.2.4 asterisk form": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", [200]),
    "5.1 a blank before the colon": (GET + b"X-A : 1\r\n\r\n", [400]),
    "5.1 a name that is none": (GET + b"X(A): 1\r\n\r\n", [400]),
    "5.1 no name": (GET + b": 1\r\n\r\n", [400]),
    "5.2 folded": (GET + b"X-A: 1\r\n 2\r\n\r\n", [400]),
    "5.5 (RFC 9110) a NUL": (GET + b"X-A: \0\r\n\r\n", [400]),
    "5.5 (RFC 9110) blanks around a value": (GET + b"X-A: \t 1 \t\r\n\r\n", [200]),
    "6.1 a coding that is not spoken": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", [501]),
    "6.1 identity": (POST + b"Transfer-Encoding: identity\r\n\r\n" + NEXT, [501]),
    "6.1 chunked twice": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + NEXT, [501]),
    "6.1 in HTTP/1.0": (b"POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    "6.1 behind a vertical tab": (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + NEXT, [400]),
    "6.3 a length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + NEXT, [400]),
    "6.3 two lengths": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", [400]),
    "6.3 a list of lengths": (POST + b"Content-Length: 1, 1\r\n\r\nx", [400]),
    "6.3 a signed length": (POST + b"Content-Length: +1\r\n\r\nx", [400]),
    "6.3 a hexadecimal length": (POST + b"Content-Length: 0x1\r\n\r\nx", [400]),
    "6.3 no length": (POST + b"Content-Length: \r\n\r\nx", [400]),
    "6.3 blanks behind a length": (POST + b"Content-Length: 1  \r\n\r\nx", [200]),
    "6.3 a body of GET": (GET + b"Content-Length: 3\r\n\r\nabc" + GET + b"\r\n", [200, 200]),
    "6.3 a body behind Upgrade": (
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(NEXT) + NEXT,
        [200],
    ),
    "7.1 chunks": (CHUNKED + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n" + GET + b"\r\n", [200, 200]),
    "7.1 zeros before a size": (CHUNKED + b"0002\r\nab\r\n0\r\n\r\n", [200]),
    "7.1 a size that is none": (CHUNKED + b"2x\r\nab\r\n0\r\n\r\n", [400]),
    "7.1 a size of seventeen digits": (CHUNKED + b"00000000000000002\r\nab\r\n0\r\n\r\n", [400]),
    "7.1 a signed size": (CHUNKED + b"-2\r\nab\r\n0\r\n\r\n", [400]),
    "7.1 a chunk longer than its size": (CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", [400]),
    "7.1 a bare LF behind a size": (CHUNKED + b"2\nab\r\n0\r\n\r\n", [400]),
    "7.1.1 an extension": (CHUNKED + b'2;a=b;c="d"\r\nab\r\n0\r\n\r\n', [200]),
    "7.1.1 an extension with a bare CR": (CHUNKED + b"2;a\rb\r\nab\r\n0\r\n\r\n", [400]),
    "7.1.2 trailers": (CHUNKED + b"0\r\nX-A: 1\r\nAuthorization: Bearer t\r\n\r\n" + GET + b"\r\n", [200, 200]),
    "7.1.2 a trailer that is none": (CHUNKED + b"0\r\nX A: 1\r\n\r\n", [400]),
    "9.3 requests in a row": (GET + b"\r\n" + GET + b"\r\n" + GET + b"\r\n", [200, 200, 200]),
    "9.6 close": (GET + b"Connection: close\r\n\r\n" + NEXT, [200]),
    "9.6 close among others": (GET + b"Connection: keep-alive, Close\r\n\r\n" + NEXT, [200]),
    "9.1 (RFC 9110) a method in small letters": (b"head" + GET[3:] + b"\r\n" + NEXT, [400]),
    "9.1 (RFC 9110) a method in both": (b"Get" + GET[3:] + b"\r\n" + NEXT, [400]),
    "5.3 (RFC 9110) two tokens": (GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", [400]),
    "5.3 (RFC 9110) two keys": (GET + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\n\r\n", [400]),
    "a request line of 8 kB": (b"GET /" + b"a" * LONGEST_LINE + b" HTTP/1.1\r\nHost: h\r\n\r\n", [414]),
    "a request line without an end": (b"GET /" + b"a" * 3 * LONGEST_LINE, [414]),
    "a head of 32 kB": (GET + b"X-A: " + b"a" * LARGEST_HEAD + b"\r\n\r\n", [431]),
    "a head without an end": (GET + b"X-A: " + b"a" * 2 * LARGEST_HEAD, [431]),
    "101 fields": (GET + b"".join(b"X-%d: 1\r\n" % n for n in range(MOST_FIELDS)) + b"\r\n", [431]),
    "trailers of 8 kB": (CHUNKED + b"0\r\n" + b"X-A: 1\r\n" * 2000 + b"\r\n", [431]),
    "an extension of 8 kB": (CHUNKED + b"2;" + b"a" * 9000 + b"\r\nab\r\n0\r\n\r\n", [431]),
    "many extensions": (CHUNKED + b"1;aaaaaaaaa\r\nb\r\n" * 2000 + b"0\r\n\r\n", [431]),
    "101 parameters": (b"GET /v1/x?" + b"&".join([b"a"] * 101) + b" HTTP/1.1\r\nHost: h\r\n\r\n", [400]),
    "a body past the bound": (POST + b"Content-Length: 200000\r\n\r\n" + b"a" * 200_000, [200]),
    "a body cut off": (POST + b"Content-Length: 10\r\n\r\nabc", [400]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_http_is_answered_and_what_is_not_is_refused(teller: Teller, case: str):
    sent, statuses = CASES[case]
    for parts in ((sent,), _torn(sent)):
        answers = ask(teller, *parts)
        assert [status for status, _ in answers] == statuses
        assert all(told.get("path") != "/smuggled" for _, told in answers)
        assert all(told.get("token") is None for _, told in answers)
        for status, told in answers:
            if status >= 400:
                assert told["code"]


def _torn(data: bytes) -> tuple[bytes, ...]:
    """In two, where a head has ended if there is one."""
    place = data.find(b"\r\n\r\n") + 4
    place = place if place > 4 and place < len(data) else max(1, len(data) // 2)
    return data[:place], data[place:]


def test_a_request_is_what_its_head_says(teller: Teller):
    head = b"POST /v1/stores/019ABF65-8F3B-7D1E-9C4A-2B6D8E0F1A3C?q=%7e HTTP/1.1\r\nhOsT: h\r\nX-A: 1\r\nx-a:  2 \r\n"
    head += b"X_B: 3\r\nAuthorization: bEaReR   dues_abc\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((status, told),) = ask(teller, head, b"3\r\nabc\r\n", b"0\r\nX-A: 9\r\nAuthorization: Bearer dues_xyz\r\n\r\n")
    assert (status, told["method"]) == (200, "POST")
    assert told["path"] == "/v1/stores/019abf65-8f3b-7d1e-9c4a-2b6d8e0f1a3c"
    assert (told["query"], told["token"], told["body"]) == ("q=%7e", "dues_abc", "abc")
    assert told["fields"] == {"x-a": "1, 2"}


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer dues_a", "dues_a"),
        ("bearer  dues_a", "dues_a"),
        ("Bearer dues_a\xa0", ""),
        ("Bearer dues_a\x85", ""),
        ("Bearer dues_a dues_b", ""),
        ("Bearer", ""),
        ("Basic dues_a", ""),
        ("1.2.3.4", ""),
    ],
)
def test_a_token_has_one_reading(teller: Teller, authorization: str, token: str):
    ((_, told),) = ask(teller, GET + b"Authorization: " + authorization.encode("latin-1") + b"\r\n\r\n")
    assert told["token"] == token


@pytest.mark.parametrize(
    "target", ["//v1/x", "/%2fv1/x", "/v1/%78", "/./v1", "/v1/../v1", "/v1//x", "/v1/x;a", "/v1/\\x"]
)
def test_another_spelling_of_a_path_is_no_path(teller: Teller, target: str):
    ((_, told),) = ask(teller, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert told["path"] == ""


def test_a_client_that_waits_for_100_is_told_to_go_on(teller: Teller):
    with Client(teller) as client:
        client.send(POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert client._socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.answers(1)[0][1]["body"] == "abc"


def test_an_answer_before_the_body_has_come_is_the_connections_last(teller: Teller):
    with Client(teller) as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n")
        assert client.answers(1)[0][0] == 200
        client.send(NEXT + b" " * 100)
        assert client.answers(1) == []
    assert len(teller.seen) == 1


def test_a_client_that_only_closes_its_side_is_answered(teller: Teller):
    with Client(teller) as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
        client.end()
        assert client.answers(1)[0][0] == 200


def test_a_client_that_leaves_is_noticed(teller: Teller):
    client = Client(teller)
    client.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n" + GET + b"\r\n")
    while not teller.seen:
        time.sleep(0.01)
    client.leave()
    assert teller.gone.wait(10)
    # What stood behind is answered to nobody.
    assert len(teller.seen) == 1


@pytest.mark.parametrize("leaves", [True, False])
def test_a_file_is_sent_to_a_client_only_while_it_takes_it(
    teller: Teller, monkeypatch: pytest.MonkeyPatch, leaves: bool
):
    """One that has left is noticed with the next part, and one that stays and reads nothing after a time."""
    monkeypatch.setattr(exchange_module, "SEND_S", 60.0 if leaves else 0.3)
    with Client(teller) as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client._socket.recv(1000).startswith(b"HTTP/1.1 200")
        if not leaves:
            assert teller.gone.wait(10)
    assert teller.gone.wait(10)


def test_a_slow_client_is_sent_the_whole_of_a_connections_last_answer(teller: Teller, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "_LINGER_S", 0.1)
    with Client(teller) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        # Past several looks for connections whose time is up.
        time.sleep(1.3)
        assert client.answers(1)[0][1] == {"large": "x" * 4_000_000}


def test_of_many_requests_in_a_row_few_are_held(teller: Teller):
    with Client(teller) as client:
        client._socket.settimeout(1)
        one = b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n"
        with contextlib.suppress(TimeoutError):
            client.send(one + (GET + b"\r\n") * 1_000_000)
        (held,) = (len(connection._data) for connection in teller.connections._open)  # type: ignore[attr-defined]
        assert 0 < held < 1_000_000
        assert len(teller.seen) == 1


def test_a_client_that_takes_nothing_is_answered_no_more(teller: Teller):
    with Client(teller) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
        time.sleep(0.5)
        assert len(teller.seen) < 10
        assert len(client.answers(20)) == 20


@pytest.mark.parametrize("sent", [b"", b"GET /hea", GET], ids=["nothing", "a line", "half a head"])
def test_a_head_has_its_time(teller: Teller, monkeypatch: pytest.MonkeyPatch, sent: bytes):
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    with Client(teller) as client:
        client.send(sent)
        answers = client.answers(1)
        assert [status for status, _ in answers] == ([408] if sent else [])
        assert client.is_closed()


def test_a_body_has_its_time(teller: Teller, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "_PAUSE_S", 0.3)
    with Client(teller) as client:
        client.send(POST + b"Content-Length: 10\r\n\r\nabc")
        assert client.answers(1) == [(408, {"code": "request_timeout"})]
        assert client.is_closed()


def test_an_idle_connection_is_closed_and_a_used_one_is_not(teller: Teller):
    with Client(teller) as client:
        for _ in range(4):
            client.send(GET + b"\r\n")
            assert client.answers(1)[0][0] == 200
            time.sleep(0.6)
        assert client.is_closed()


def test_beyond_the_bound_health_is_still_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections_module, "_RESERVE", 2)
    with Teller(most=2) as teller, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(teller)) for _ in range(2)]
        for client in clients:
            client.send(GET + b"\r\n")
            assert client.answers(1)[0][0] == 200
        health, other = (stack.enter_context(Client(teller)) for _ in range(2))
        health.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert health.answers(1)[0][0] == 200
        other.send(GET + b"\r\n")
        ((status, problem),) = other.answers(1)
        assert (status, problem["code"]) == (503, "overloaded")
        assert other.is_closed()
        last = stack.enter_context(Client(teller))
        assert last.answers(1)[0][0] == 503


def test_a_server_that_ends_tells_its_clients_first():
    with Teller() as teller, Client(teller) as idle, Client(teller) as busy:
        for client in (idle, busy):
            client.send(GET + b"\r\n")
            assert client.answers(1)[0][0] == 200
        closing = threading.Thread(target=teller.close, args=(10.0,))
        closing.start()
        while not teller.connections.is_closing:
            time.sleep(0.01)
        busy.send(GET + b"\r\n")
        data = busy._socket.recv(65536)
        assert data.startswith(b"HTTP/1.1 200")
        assert b"connection: close\r\n" in data
        assert idle.is_closed()
        assert busy.is_closed()
        closing.join()


def test_a_million_bytes_of_head_take_time_as_their_length(teller: Teller):
    """One byte at a time, and all at once: neither keeps another client waiting."""
    with Client(teller) as slow, Client(teller) as large, Client(teller) as other:
        large.send(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 31_000)
        for _ in range(2000):
            slow.send(b"a")
        other.send(GET + b"\r\n")
        began = time.monotonic()
        assert other.answers(1)[0][0] == 200
        assert time.monotonic() - began < 5
