"""Sends webhooks: each is a POST to a URL that a customer chose, and that may be meant to harm.

A URL is read strictly: what two parsers could read differently is refused. Its name is resolved once, every address it
has is vetted, and the connection is made to an address that was vetted, so a name whose answers change (DNS rebinding)
leads nowhere else. No redirect is followed and no proxy is asked. One deadline bounds all of it, to the last byte, and
of the answer only the beginning is read.

Hosts that the operator names in WEBHOOK_ALLOWED_HOSTS are trusted wherever they lead.
"""

import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv6Address

from dues.webhooks.addresses import Address, is_public, parse_address
from dues.webhooks.answers import Reply, read_reply

MAX_URL = 2048
_MOST_ADDRESSES = 4

_URL = re.compile(r"(https?)://([^/?]*)(/[^?]*)?(\?.*)?", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# What some resolvers take for an IPv4 address, such as 0x7f.1: only the canonical spelling is one here.
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PORTS = {"http": 80, "https": 443}


class BadTarget(Exception):
    """A URL that no request will be sent to. `code` is stable; the text is for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class NoReply(Exception):
    """The receiver did not answer, or not in HTTP. `code`: dns, connect, tls, timeout or protocol."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class Target:
    """A URL, taken apart. `host` is lower-case; `path` has the query; `trusted` hosts are not vetted."""

    scheme: str
    host: str
    port: int
    path: str
    trusted: bool

    @property
    def netloc(self) -> str:
        """As the Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str, allowed: str = "") -> Target:
    """Read a URL; `allowed` is WEBHOOK_ALLOWED_HOSTS. Raises: BadTarget, also for an address that is not public."""
    if len(url) > MAX_URL or not re.fullmatch(r"[!-~]+", url, re.ASCII) or set('\\#"<>^`{|}') & set(url):
        raise BadTarget("url_malformed", "is not a plain http or https URL in ASCII without a fragment")
    found = _URL.fullmatch(url)
    if found is None:
        raise BadTarget("url_scheme", "must begin with https:// or http://")
    scheme, authority, path, query = found[1].lower(), found[2], found[3] or "/", found[4] or ""
    if "@" in authority:
        raise BadTarget("url_credentials", "may not hold a user or password")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise BadTarget("url_malformed", "does not name a host as https://example.com does")
    host = _host(parts[1], parts[2])
    port = int(parts[3]) if parts[3] else _PORTS[scheme]
    trusted = bool({(host, port), (host, None)} & parse_allowed(allowed))
    target = Target(scheme, host, port, path + query, trusted)
    if not trusted:
        _check_port(port)
        if literal := parse_address(host):
            _check_addresses([literal])
    return target


def _host(literal: str | None, name: str) -> str:
    """Raises: BadTarget."""
    if literal is not None:
        address = parse_address(literal)
        if not isinstance(address, IPv6Address):
            raise BadTarget("url_malformed", "does not hold an IPv6 address between its brackets")
        return str(address)
    labels = name.lower().split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        if parse_address(name) is None:
            raise BadTarget("url_malformed", "must write an IPv4 address as four decimal numbers")
    elif len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadTarget("url_malformed", "does not name a host as https://example.com does")
    return name.lower()


def _check_port(port: int) -> None:
    """Ports below 1024 belong to protocols that might understand more of a request than is meant."""
    if port not in _PORTS.values() and not 1024 <= port <= 65535:
        raise BadTarget("url_port", "may name port 80, 443, or one from 1024 to 65535")


def _check_addresses(addresses: list[Address | None]) -> None:
    if not all(address and is_public(address) for address in addresses):
        raise BadTarget("url_forbidden_address", "leads to an address that is not on the public internet")


@lru_cache
def parse_allowed(text: str) -> frozenset[tuple[str, int | None]]:
    """`localhost:9000,10.0.0.5,[::1]:9000` as pairs of host and port; no port means any.

    Raises: ValueError for an entry that is none.
    """
    found = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        parts = _AUTHORITY.fullmatch(entry)
        if parts is None:
            raise ValueError(f"{entry!r} is not host or host:port")
        host = str(IPv6Address(parts[1])) if parts[1] else parts[2].lower()
        found.add((host, int(parts[3]) if parts[3] else None))
    return frozenset(found)


def vet(target: Target, timeout_s: float) -> list[Address]:
    """The addresses that a request to `target` may be sent to. Raises: BadTarget where one of those it has is not
    public; NoReply where it has none, or its name is not resolved in time."""
    if literal := parse_address(target.host):
        return [literal]
    texts = _resolve_in_time(target.host, timeout_s)
    addresses = list(dict.fromkeys(parse_address(text) for text in texts))
    if not target.trusted:
        _check_addresses(addresses)
    if not (usable := [address for address in addresses if address]):
        raise NoReply("dns", "the host's name has no address")
    return usable


def _resolve_in_time(host: str, timeout_s: float) -> list[str]:
    """The resolver cannot be told how long it may take, so it is left to itself when it takes longer."""
    answers: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolve(host))
        except OSError as error:
            answers.put(error)

    threading.Thread(target=ask, name="webhook-resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=max(timeout_s, 0.001))
    except queue.Empty:
        raise NoReply("timeout", "the host's name was not resolved in time") from None
    if isinstance(answer, OSError):
        raise NoReply("dns", "the host's name has no address")
    return answer


def resolve(host: str) -> list[str]:
    """Every address of a name, as text. Raises: OSError."""
    found = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[0]) for *_, address in found]


def post(target: Target, body: bytes, headers: Mapping[str, str], *, timeout_s: float) -> Reply:
    """Send one request, and wait for the beginning of its answer, for at most `timeout_s` in all.

    Raises: BadTarget, before anything is sent; NoReply.
    """
    deadline = time.monotonic() + timeout_s
    try:
        connection = _connect(vet(target, timeout_s), target.port, deadline)
        with closing(connection), _cut_off(connection, deadline):
            return _exchange(connection, target, body, headers, deadline)
    except (OSError, HTTPException) as error:
        if time.monotonic() >= deadline or isinstance(error, TimeoutError):
            raise NoReply("timeout", f"no complete answer within {timeout_s:g} s") from error
        if isinstance(error, ssl.SSLError):
            raise NoReply("tls", f"no secure connection: {error.reason or type(error).__name__}") from error
        if isinstance(error, HTTPException):
            raise NoReply("protocol", f"the answer is not HTTP: {type(error).__name__}") from error
        raise NoReply("connect", f"no connection: {type(error).__name__}") from error


def _connect(addresses: list[Address], port: int, deadline: float) -> socket.socket:
    """A connection to the first address that takes one. Raises: OSError."""
    tried = addresses[:_MOST_ADDRESSES]
    for number, address in enumerate(tried):
        left = deadline - time.monotonic()
        try:
            return socket.create_connection((str(address), port), timeout=max(left / (len(tried) - number), 0.001))
        except OSError:
            if address is tried[-1]:
                raise
    raise AssertionError("there is at least one address")


@contextmanager
def _cut_off(connection: socket.socket, deadline: float) -> Iterator[None]:
    """Shut the connection at the deadline, whoever is waiting for it: a receiver that sends a byte every few seconds
    never lets a time-out of the socket's own come."""
    ours = connection.dup()

    def shut() -> None:
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)

    left = max(deadline - time.monotonic(), 0.001)
    connection.settimeout(left)
    timer = threading.Timer(left, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        ours.close()


def _exchange(
    connection: socket.socket, target: Target, body: bytes, headers: Mapping[str, str], deadline: float
) -> Reply:
    if target.scheme == "https":
        connection = tls_context().wrap_socket(connection, server_hostname=target.host)
    with closing(HTTPConnection(target.host, target.port)) as http:
        # Connected already: it neither resolves the name again nor knows of proxies.
        http.sock = connection
        http.request("POST", target.path, body, {"Host": target.netloc, **headers})
        return read_reply(connection, deadline)


@cache
def tls_context() -> ssl.SSLContext:
    return ssl.create_default_context()
