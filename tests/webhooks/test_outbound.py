"""The one way out: where it leads, and how long it may take."""

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from dues.webhooks import outbound
from dues.webhooks.outbound import BadTarget, NoReply, Target, parse_allowed, parse_target, post, vet
from tests.webhooks.receiver import Answer, Dripper, Receiver

PEM = Path(__file__).parents[1] / "mail" / "localhost.pem"

# What reaches into a network, or might with some parser: none gets as far as a connection.
HOSTILE = {
    # Loopback and its neighbours, plainly
    "http://127.0.0.1/": "url_forbidden_address",
    "https://127.0.0.1:8443/hooks": "url_forbidden_address",
    "http://127.255.255.254/": "url_forbidden_address",
    "http://0.0.0.0/": "url_forbidden_address",
    "http://0.1.2.3/": "url_forbidden_address",
    "http://10.0.0.5/": "url_forbidden_address",
    "http://172.16.0.1/": "url_forbidden_address",
    "http://192.168.1.1/": "url_forbidden_address",
    "http://100.64.0.1/": "url_forbidden_address",
    "http://169.254.169.254/latest/meta-data/": "url_forbidden_address",
    "http://168.63.129.16/machine": "url_forbidden_address",
    "http://224.0.0.1/": "url_forbidden_address",
    "http://255.255.255.255/": "url_forbidden_address",
    # IPv4 as only some read it
    "http://2130706433/": "url_malformed",
    "http://017700000001/": "url_malformed",
    "http://0x7f000001/": "url_malformed",
    "http://0x7F.1/": "url_malformed",
    "http://0x7f.0x0.0x0.0x1/": "url_malformed",
    "http://0177.0.0.1/": "url_malformed",
    "http://127.1/": "url_malformed",
    "http://127.0.1/": "url_malformed",
    "http://127.0.0.01/": "url_malformed",
    "http://127.0.0.1./": "url_malformed",
    "http://127.0.0.256/": "url_malformed",
    "http://0/": "url_malformed",
    "http://1.1.1.0x1/": "url_malformed",
    # IPv6, and IPv4 inside of it
    "http://[::1]/": "url_forbidden_address",
    "http://[::]/": "url_forbidden_address",
    "http://[0:0:0:0:0:0:0:1]/": "url_forbidden_address",
    "http://[::ffff:127.0.0.1]/": "url_forbidden_address",
    "http://[::ffff:7f00:1]/": "url_forbidden_address",
    "http://[::127.0.0.1]/": "url_forbidden_address",
    "http://[64:ff9b::7f00:1]/": "url_forbidden_address",
    "http://[64:ff9b::169.254.169.254]/": "url_forbidden_address",
    "http://[2002:7f00:1::]/": "url_forbidden_address",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/": "url_forbidden_address",
    "http://[fe80::1]/": "url_forbidden_address",
    "http://[fd00:ec2::254]/": "url_forbidden_address",
    "http://[ff02::1]/": "url_forbidden_address",
    "http://[fe80::1%25eth0]/": "url_malformed",
    "http://[fe80::1%eth0]/": "url_malformed",
    "http://[::1/": "url_malformed",
    "http://[127.0.0.1]/": "url_malformed",
    "http://::1/": "url_malformed",
    # Who is the host?
    "http://user:password@example.com/": "url_credentials",
    "http://example.com@127.0.0.1/": "url_credentials",
    "http://127.0.0.1:80@example.com/": "url_credentials",
    "http://example.com:80@127.0.0.1:80/": "url_credentials",
    "http://example.com\\@127.0.0.1/": "url_malformed",
    "http://example.com\\.127.0.0.1/": "url_malformed",
    "http:\\\\127.0.0.1\\": "url_malformed",
    "http://127.0.0.1#@example.com/": "url_malformed",
    "http://example.com/#x": "url_malformed",
    "http://127.0.0.1?@example.com/": "url_forbidden_address",
    "http://example.com%2f@127.0.0.1/": "url_credentials",
    "http://127.0.0.1%2f.example.com/": "url_malformed",
    "http://exa%6dple.com/": "url_malformed",
    "http://example.com:80:80/": "url_malformed",
    "http://example.com:/": "url_malformed",
    "http://example.com:80a/": "url_malformed",
    "http:///etc/passwd": "url_malformed",
    "http://": "url_malformed",
    "http://.example.com/": "url_malformed",
    "http://example..com/": "url_malformed",
    "http://-example.com/": "url_malformed",
    "http://exam_ple.com/": "url_malformed",
    "http://" + "a" * 64 + ".com/": "url_malformed",
    "http://" + "a." * 130 + "com/": "url_malformed",
    "http:/127.0.0.1/": "url_scheme",
    "http:127.0.0.1": "url_scheme",
    "//127.0.0.1/": "url_scheme",
    # Characters that become others
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11/": "url_malformed",
    "http://①②⑦.⓪.⓪.①/": "url_malformed",
    "http://127。0。0。1/": "url_malformed",
    "http://ⓛocalhost/": "url_malformed",
    "http://loc\u0430lhost/": "url_malformed",
    "http://exam\u00adple.com/": "url_malformed",
    "http://example.com\u2025/": "url_malformed",
    "http://example.com/\r\nHost: 127.0.0.1": "url_malformed",
    "http://example.com/ HTTP/1.1": "url_malformed",
    "http://example.com\t/": "url_malformed",
    " http://example.com/": "url_malformed",
    "http://example.com/\0": "url_malformed",
    "http://example.com/{x}": "url_malformed",
    # Other protocols
    "ftp://example.com/": "url_scheme",
    "file:///etc/passwd": "url_scheme",
    "gopher://127.0.0.1:6379/_FLUSHALL": "url_scheme",
    "javascript:alert(1)": "url_scheme",
    "https+unix://example.com/": "url_scheme",
    "http://example.com:25/": "url_port",
    "http://example.com:6/": "url_port",
    "http://example.com:0/": "url_port",
    "http://example.com:65536/": "url_port",
    "http://example.com:99999/": "url_port",
    "http://example.com/" + "a" * 2048: "url_malformed",
    "": "url_malformed",
}


@pytest.mark.parametrize(("url", "code"), HOSTILE.items(), ids=lambda value: ascii(value)[:50])
def test_a_hostile_url_is_refused(url: str, code: str):
    with pytest.raises(BadTarget) as refused:
        parse_target(url)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", "example.com", 443, "/", False)),
        ("HTTPS://Example.COM/Path?q=1&r=%20", Target("https", "example.com", 443, "/Path?q=1&r=%20", False)),
        ("http://example.com:8080?q", Target("http", "example.com", 8080, "/?q", False)),
        ("https://xn--bcher-kva.example/a@b", Target("https", "xn--bcher-kva.example", 443, "/a@b", False)),
        ("https://1.1.1.1/", Target("https", "1.1.1.1", 443, "/", False)),
        ("https://[2606:4700:4700:0::1111]/", Target("https", "2606:4700:4700::1111", 443, "/", False)),
    ],
)
def test_a_plain_url_is_taken_apart(url: str, target: Target):
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "netloc"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("http://example.com:443/", "example.com:443"),
        ("https://[2606:4700::1]:8443/", "[2606:4700::1]:8443"),
    ],
)
def test_the_host_header_names_no_port_that_goes_without_saying(url: str, netloc: str):
    assert parse_target(url).netloc == netloc


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
        post(parse_target("https://rebound.example/"), b"", {}, timeout_s=1)
    assert connections == []


def test_a_name_is_resolved_once_and_what_was_vetted_is_connected_to(
    resolves: Callable[..., Resolver], connections: list[tuple[str, int]]
):
    """DNS rebinding: public when it is looked at, loopback a moment later."""
    resolver = resolves(["1.1.1.1", "2606:4700:4700::1111"], ["127.0.0.1"])
    with pytest.raises(NoReply) as failed:
        post(parse_target("https://rebound.example:8443/"), b"", {}, timeout_s=1)
    assert failed.value.code == "connect"
    assert connections == [("1.1.1.1", 8443), ("2606:4700:4700::1111", 8443)]
    assert resolver.asked == 1


def test_a_name_without_an_address(resolves: Callable[..., Resolver]):
    answers: list[list[str] | OSError] = [socket.gaierror(-2, "unknown"), []]
    for answer in answers:
        resolves(answer)
        with pytest.raises(NoReply) as failed:
            vet(parse_target("https://gone.example/"), 1)
        assert failed.value.code == "dns"


def test_a_resolver_that_hangs_is_left_to_itself(monkeypatch: pytest.MonkeyPatch):
    def hang(host: str) -> list[str]:
        time.sleep(0.5)
        return []

    monkeypatch.setattr(outbound, "resolve", hang)
    started = time.monotonic()
    with pytest.raises(NoReply) as failed:
        vet(parse_target("https://slow.example/"), 0.05)
    assert failed.value.code == "timeout"
    assert time.monotonic() - started < 0.4


class TestHostsOfTheOperator:
    def test_they_may_be_anywhere(self):
        for url, allowed in (
            ("http://127.0.0.1:25/", "127.0.0.1"),
            ("http://localhost:9000/", "10.0.0.5,localhost:9000"),
            ("http://LOCALHOST:9000/", "LocalHost:9000"),
            ("http://[::1]:9000/", "[0::1]:9000"),
        ):
            assert parse_target(url, allowed).trusted

    def test_a_port_that_is_named_is_the_only_one(self):
        assert not parse_target("http://localhost:9001/", "localhost:9000").trusted

    def test_nothing_that_only_looks_like_them(self):
        for url in ("http://localhost.example.com/", "http://alocalhost/"):
            assert not parse_target(url, "localhost").trusted
        with pytest.raises(BadTarget):
            parse_target("http://127.1/", "127.0.0.1")

    def test_nobody_is_trusted_unless_named(self):
        assert parse_allowed("") == frozenset()


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
    assert time.monotonic() - started < 2


def test_a_body_drop_by_drop_does_not_change_the_status():
    started = time.monotonic()
    with Dripper(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n") as dripper:
        assert post(dripper.target(), b"", {}, timeout_s=0.4).status == 200
    assert time.monotonic() - started < 2


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
