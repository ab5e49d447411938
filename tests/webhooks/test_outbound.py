"""The one way out: where it leads, and how long it may take."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from dues.webhooks import outbound
from dues.webhooks.outbound import BadTarget, NoReply, Target, parse_target, post, vet
from tests.webhooks.receiver import Answer, Dripper, Receiver

PEM = Path(__file__).parents[1] / "mail" / "localhost.pem"


class Resolver:
    """A name server that somebody has under control: its answers, one after the other."""

    def __init__(self, *answers: list[str] | OSError) -> None:
        self.answers, self.asked = list(answers), 0

    def __call__(self, host: str) -> list[str]:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def resolves(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Resolver]:
    def set_up(*answers: list[str] | OSError) -> Resolver:
        resolver = Resolver(*answers)
        monkeypatch.setattr(outbound, "resolve", resolver)
        return resolver

    return set_up


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where connections were attempted; none is made."""
    tried: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return tried


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["1.1.1.1", "10.0.0.1"],
        ["1.1.1.1", "::1"],
        ["fe80::1%eth0"],
        ["::ffff:8.8.8.8"],
        ["169.254.169.254"],
        ["64:ff9b::8.8.8.8"],
    ],
)
def test_a_name_is_judged_by_every_address_it_has(
    addresses: list[str], resolves: Callable[..., Resolver], connections: list[tuple[str, int]]
):
    resolves(addresses)
    with pytest.raises(BadTarget, match="not on the public internet"):
        post(parse_target("https://rebound.example/"), b"", {}, timeout_s=10)
    assert connections == []


def test_a_name_is_resolved_once_and_what_was_vetted_is_connected_to(
    resolves: Callable[..., Resolver], connections: list[tuple[str, int]]
):
    """DNS rebinding: public when it is looked at, loopback a moment later."""
    resolver = resolves(["1.1.1.1", "2606:4700:4700::1111"], ["127.0.0.1"])
    with pytest.raises(NoReply) as failed:
        post(parse_target("https://rebound.example:8443/"), b"", {}, timeout_s=10)
    assert failed.value.code == "connect"
    assert connections == [("1.1.1.1", 8443), ("2606:4700:4700::1111", 8443)]
    assert resolver.asked == 1


def test_a_name_without_an_address(resolves: Callable[..., Resolver]):
    answers: list[list[str] | OSError] = [socket.gaierror(-2, "unknown"), []]
    for answer in answers:
        resolves(answer)
        with pytest.raises(NoReply) as failed:
            vet(parse_target("https://gone.example/"), 10)
        assert failed.value.code == "dns"


def test_a_resolver_that_hangs_is_left_to_itself(monkeypatch: pytest.MonkeyPatch):
    found = threading.Event()

    def hang(host: str) -> list[str]:
        found.wait(30)
        return []

    monkeypatch.setattr(outbound, "resolve", hang)
    started = time.monotonic()
    with pytest.raises(NoReply) as failed:
        vet(parse_target("https://slow.example/"), 0.05)
    assert failed.value.code == "timeout"
    assert time.monotonic() - started < 10
    found.set()


@pytest.fixture
def target(receiver: Receiver) -> Target:
    return parse_target(receiver.url, "127.0.0.1")


def test_a_request_and_its_answer(receiver: Receiver, target: Target):
    receiver.always(202, b'{"ok":true}\n', Retry_After="7")
    reply = post(target, b"{}", {"X-A": "b"}, timeout_s=5)
    assert (reply.status, reply.body, reply.retry_after_s) == (202, '{"ok":true}\n', 7)
    [call] = receiver.calls
    assert (call.path, call.body) == ("/hooks?k=1", b"{}")
    assert call.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert call.headers["x-a"] == "b"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, receiver: Receiver, target: Target):
    receiver.always(status, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    assert post(target, b"{}", {}, timeout_s=5).status == status
    assert len(receiver.calls) == 1


def test_no_proxy_is_asked(receiver: Receiver, target: Target, monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert post(target, b"{}", {}, timeout_s=5).status == 204


def test_of_a_long_answer_only_the_beginning_is_read(receiver: Receiver, target: Target):
    receiver.always(500, "ä\0\x1b[31m".encode() + b"x" * 10_000_000)
    reply = post(target, b"{}", {}, timeout_s=5)
    assert reply.body.startswith("ä[31mxxx")
    assert len(reply.body) == 500


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("120", 120, 120),
        pytest.param(format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True), 7200, 10800, id="later"),
        pytest.param(format_datetime(datetime.now(UTC) - timedelta(seconds=300), usegmt=True), 0, 0, id="past"),
        ("-1", 0, 0),
        ("soon", 0, 0),
        ("1" * 40, 0, 0),
        ("Thu, 99 Jan 2026 00:00:00", 0, 0),
        ("Thu, 01 Jan 2026 00:00:00", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, least: float, most: float, receiver: Receiver, target: Target):
    receiver.always(503, Retry_After=text)
    assert least <= post(target, b"{}", {}, timeout_s=5).retry_after_s <= most


def test_nobody_listens():
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoReply) as failed:
        post(parse_target(f"http://127.0.0.1:{port}/", "127.0.0.1"), b"", {}, timeout_s=5)
    assert failed.value.code == "connect"


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: "],
)
def test_who_answers_drop_by_drop_is_cut_off(answer: bytes):
    started = time.monotonic()
    with Dripper(answer) as dripper, pytest.raises(NoReply) as failed:
        post(dripper.target(), b"", {}, timeout_s=0.4)
    assert failed.value.code == "timeout"
    assert time.monotonic() - started < 10


def test_a_body_drop_by_drop_does_not_change_the_status():
    started = time.monotonic()
    with Dripper(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") as dripper:
        assert post(dripper.target(), b"", {}, timeout_s=0.4).status == 200
    assert time.monotonic() - started < 10


def test_what_is_not_http_is_no_answer(receiver: Receiver, target: Target):
    receiver.hang_up()
    with pytest.raises(NoReply) as failed:
        post(target, b"", {}, timeout_s=5)
    assert failed.value.code in ("protocol", "connect")
    with Dripper(b"220 smtp.example.com ESMTP\r\n\r\n") as dripper, pytest.raises(NoReply) as failed:
        post(dripper.target(), b"", {}, timeout_s=2)
    assert failed.value.code == "protocol"


class TestTls:
    @pytest.fixture
    def secure(self, receiver: Receiver) -> Receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(PEM)
        server = receiver._server
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return receiver

    @pytest.fixture
    def trusting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever signed the test's certificate is an authority."""
        monkeypatch.setattr(outbound, "tls_context", lambda: ssl.create_default_context(cafile=str(PEM)))

    def test_a_certificate_is_checked_against_the_name_and_not_the_address(
        self, secure: Receiver, trusting: None, resolves: Callable[..., Resolver]
    ):
        resolves(["127.0.0.1"])
        url = f"https://localhost:{secure.port}/"
        assert post(parse_target(url, "localhost"), b"{}", {}, timeout_s=5).status == 204
        assert secure.calls[0].headers["host"] == f"localhost:{secure.port}"

    def test_a_certificate_of_somebody_else_is_refused(
        self, secure: Receiver, trusting: None, resolves: Callable[..., Resolver]
    ):
        resolves(["127.0.0.1"])
        with pytest.raises(NoReply) as failed:
            post(parse_target(f"https://other.example:{secure.port}/", "other.example"), b"{}", {}, timeout_s=5)
        assert failed.value.code == "tls"
        assert secure.calls == []

    def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, secure: Receiver, resolves: Callable[..., Resolver]
    ):
        resolves(["127.0.0.1"])
        with pytest.raises(NoReply) as failed:
            post(parse_target(f"https://localhost:{secure.port}/", "localhost"), b"{}", {}, timeout_s=5)
        assert failed.value.code == "tls"


def test_an_answer_can_be_made_for_each_call(receiver: Receiver, target: Target):
    receiver.answer = lambda call: Answer(200 + len(call.body))
    assert post(target, b"1", {}, timeout_s=5).status == 201
