"""Valid requests with something wrong in them, made up at random: whoever reads them, nobody is given another's answer,
nothing of the kind is a fault of the server, and what both hosts take means the same to both.

`bin/test --mutations 100000` makes up as many anew; the default run tries the same thousand each time. A failure names
its seed.
"""

import contextlib
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import ujson
from flask import Flask

from local.ports import free_port
from tests.factory import Factory
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

SECRET = "kept-from-others"
_WORDS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"//", b"/./", b"%2f", b"%00", b"?", b"&", b"#", b"\xa0", b"\x85",
    b"\xff", b"chunked", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Host: i\r\n",
    b"Authorization: Bearer x\r\n", b"Accept-Encoding: br\r\n", b"If-None-Match: *\r\n", b"Range: bytes=0-1\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n", b"0\r\n\r\n", b"9" * 30, b"a" * 9000, b"1.1", b"HTTP/1.0", b"GET ", b"HEAD ",
]  # fmt: skip


class Sent(NamedTuple):
    """`owned`: whether the owner's token is still in it as it was."""

    parts: tuple[bytes, ...]
    owned: bool

    @property
    def is_head(self) -> bool:
        """Empty lines before a request are passed over."""
        return b"".join(self.parts).lstrip(b"\r\n").startswith(b"HEAD")


class Answer(NamedTuple):
    status: int
    body: bytes


def bases(path: str, token: str) -> list[bytes]:
    body = ujson.dumps({"label": SECRET, "line1": "1 High Street", "city": "Leeds", "country": "GB"}).encode()
    auth = f"Authorization: Bearer {token}\r\n"
    post = f"POST /v1/me/addresses HTTP/1.1\r\nHost: h\r\n{auth}Content-Type: application/json\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:20], body[20:])) + b"0\r\n\r\n"
    return [
        f"GET {path}?per_page=1 HTTP/1.1\r\nHost: h\r\n{auth}\r\n".encode(),
        f"GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n{auth}\r\n".encode(),
        f"HEAD {path} HTTP/1.1\r\nHost: h\r\n{auth}\r\n".encode(),
        b"GET /v1/stores HTTP/1.1\r\nHost: h\r\n\r\n",
        f"{post}Content-Length: {len(body)}\r\n\r\n".encode() + body,
        f"{post}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks,
    ]


def mutated(chance: random.Random, base: bytes, token: bytes) -> Sent:
    data = bytearray(base)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if data:
                data[min(place, len(data) - 1)] = chance.randrange(256)
            case 1:
                data[place:place] = chance.choice(_WORDS)
            case 2:
                del data[place : place + chance.choice((1, 2, 5, 50))]
            case 3:
                # Between two lines, where a field may stand.
                ends = [found.end() for found in re.finditer(rb"\r\n", bytes(data))] or [0]
                place = chance.choice(ends)
                data[place:place] = chance.choice(_WORDS)
            case 4:
                lines = bytes(data).split(b"\r\n")
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                data = bytearray(b"\r\n".join(lines))
            case _:
                data[place:] = bytes(data[place:]).swapcase()
    sent = bytes(data)
    cut = chance.randrange(len(sent) + 1)
    parts = (sent,) if chance.random() < 0.7 else (sent[:cut], sent[cut:])
    return Sent(parts, token in sent)


def exchange(port: int, sent: Sent) -> list[Answer]:
    return answers_of(replied(port, sent), is_head=sent.is_head)


def replied(port: int, sent: Sent) -> bytes:
    """All that is answered until the server closes or is silent. A client that closes its side at once is taken by some
    proxies for one that has left; so it is closed only where no answer comes."""
    data = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in sent.parts:
            if part:
                connection.sendall(part)
        for silence_s in (0.4, 2.0):
            connection.settimeout(silence_s)
            with contextlib.suppress(TimeoutError):
                while part := connection.recv(65536):
                    data += part
                    connection.settimeout(0.03 if is_whole(data) else 2.0)
                break
            if data:
                break
            connection.shutdown(socket.SHUT_WR)
    return data


def is_whole(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return len(body) >= int(length[1]) if length else data.endswith(b"0\r\n\r\n")


def answers_of(data: bytes, *, is_head: bool) -> list[Answer]:
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        # gunicorn's own answers have the version of the request, whichever that was.
        status = re.match(rb"HTTP/1\.\d (\d{3})", head)
        if status is None:
            # What a server that refuses HEAD sends behind it all the same.
            assert is_head, f"{head[:200]!r} is no answer"
            break
        if status[1] == b"100":
            continue
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head) and not is_head:
            body, data = unchunked(data)
            found.append(Answer(int(status[1]), body))
            continue
        if length is None:
            size = 0 if status[1] in (b"204", b"304") else len(data)
        else:
            size = 0 if is_head else int(length[1])
        found.append(Answer(int(status[1]), data[:size]))
        data = data[size:]
    return found


def unchunked(data: bytes) -> tuple[bytes, bytes]:
    """A body that a proxy has sent in chunks, and what follows it."""
    parts = []
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        parts.append(data[:size])
        data = data[size + 2 :]
        if not size:
            break
    return b"".join(parts), data


@pytest.fixture(scope="module")
def fronts(servers: Servers) -> Iterator[dict[str, int]]:
    """The ports of the server, of Flask on gunicorn's threads, and of Caddy in front of the server."""
    with (
        WebServer(servers, RATE_LIMIT="off") as server,
        # Half a request holds one of its threads.
        WebServer(servers, threads=48, RATE_LIMIT="off", target="wsgi:app") as wsgi,
        caddy(servers.home, server.port) as port,
    ):
        yield {"server": server.port, "wsgi": wsgi.port, "caddy": port}


@contextlib.contextmanager
def caddy(home: Path, upstream: int) -> Iterator[int]:
    port = free_port()
    config = home / "Caddyfile"
    config.write_text(
        f"{{\n admin off\n auto_https off\n}}\nhttp://:{port} {{\n reverse_proxy 127.0.0.1:{upstream}\n}}\n"
    )
    program = Path(sys.executable).with_name("caddy")
    with open(home / "caddy.log", "wb") as log:
        argv = [str(program), "run", "--config", str(config), "--adapter", "caddyfile"]
        process = subprocess.Popen(argv, stdout=log, stderr=log, env={"HOME": str(home), "PATH": "/usr/bin:/bin"})
    try:
        wait_until(lambda: exchange(port, Sent((b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",), False)), 20, "Caddy")
        yield port
    finally:
        process.terminate()
        process.wait(20)


# A hundred thousand take half an hour.
@pytest.mark.timeout(3 * 3600)
def test_whatever_is_sent_nobody_gets_anothers_answer(
    app: Flask, make: Factory, fronts: dict[str, int], pytestconfig: pytest.Config, servers: Servers
):
    owner = make.user(name=SECRET)
    store = make.store(owner, name="Public")
    make.payment(store, make.user(name=SECRET), description=SECRET)
    token = make.auth(owner)["Authorization"].removeprefix("Bearer ")
    requests = bases(f"/v1/stores/{store.id}/payments", token)
    asked, seed = pytestconfig.getoption("mutations"), pytestconfig.getoption("mutations_seed")
    if seed is None:
        seed = random.randrange(10**9) if asked else 1
    chance = random.Random(seed)
    # What memory a process takes once it is warm.
    for request in requests * 3:
        for port in fronts.values():
            exchange(port, Sent((request,), True))
    before = memory_of(fronts["server"])
    made = [mutated(chance, chance.choice(requests), token.encode()) for _ in range(asked or 1000)]

    def send(sent: Sent) -> dict[str, bytes]:
        return {name: replied(port, sent) for name, port in fronts.items()}

    faults = []
    # Most of the time is spent waiting for answers that do not come.
    with ThreadPoolExecutor(96) as threads:
        for number, (sent, found) in enumerate(zip(made, threads.map(send, made), strict=True)):
            try:
                judge(sent, {name: answers_of(data, is_head=sent.is_head) for name, data in found.items()})
            except (AssertionError, ValueError) as error:
                faults.append(f"seed {seed}, number {number}: {error}: {sent.parts!r} -> {found}")
    assert not faults, f"{len(faults)} of {len(made)}:\n" + "\n\n".join(faults[:20])
    nobody = exchange(fronts["server"], Sent((b"GET /v1/me HTTP/1.1\r\nHost: h\r\n\r\n",), False))
    assert [answer.status for answer in nobody] == [401]
    began = time.monotonic()
    assert exchange(fronts["server"], Sent((b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n",), False))[0].status == 200
    assert time.monotonic() - began < 5
    assert memory_of(fronts["server"]) < before + 40_000_000


def judge(sent: Sent, found: dict[str, list[Answer]]) -> None:
    for name, answers in found.items():
        # A proxy has errors of its own for what it could not pass on.
        own = found["server"] if name == "caddy" else answers
        assert all(answer.status < 500 or answer.status in (501, 505) for answer in own), f"{name} fails"
        assert sent.owned or not any(SECRET.encode() in answer.body for answer in answers), f"{name} tells a stranger"
    agree(found["server"], found["wsgi"], "the server and wsgi")
    agree(found["server"], found["caddy"], "the server alone and behind Caddy")


def agree(ours: list[Answer], theirs: list[Answer], who: str) -> None:
    """What both take means the same to both. Either may refuse what it does not like, and see no request after that."""
    for mine, other in zip(ours, theirs, strict=False):
        if mine.status >= 400 or other.status >= 400:
            break
        assert mine.status == other.status, f"{who} differ"
        if mine.status == 200:
            assert without_ids(mine.body) == without_ids(other.body), f"{who} differ"


def without_ids(body: bytes) -> bytes:
    """Addresses are made by each request, and differ."""
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[\d:.+]*|\"version\":\d+", b"", body)


def memory_of(port: int) -> int:
    """Of the process that serves, and its children."""
    listeners = [
        c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.status == "LISTEN"
    ]
    return max(psutil.Process(pid).memory_info().rss for pid in listeners if pid)
