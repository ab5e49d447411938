"""The protocols of `bin/run --gateway`: HTTP/1.1, 2 and 3, in front of a real web server."""

import asyncio
import ssl
from collections.abc import Iterator

import httpx2
import pytest
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3_ALPN, H3Connection
from qh3.h3.events import DataReceived, HeadersReceived
from qh3.quic.configuration import QuicConfiguration
from qh3.quic.events import QuicEvent

from local.gateway import Gateway
from tests.deploy.gateways import caddy
from tests.servers import Servers
from tests.webserver import WebServer


@pytest.fixture(scope="module")
def gateway(servers: Servers) -> Iterator[Gateway]:
    with WebServer(servers, FORWARDED_ALLOW_IPS="127.0.0.1") as web, caddy(servers.home, [web.port]) as gateway:
        yield gateway


def client(gateway: Gateway, *, http2: bool) -> httpx2.Client:
    context = ssl.create_default_context(cafile=str(gateway.root_certificate))
    return httpx2.Client(verify=context, base_url=gateway.tls_url, trust_env=False, http1=not http2, http2=http2)


def test_tls_speaks_http_1_and_2_and_offers_3(gateway: Gateway):
    for http2, version in ((False, "HTTP/1.1"), (True, "HTTP/2")):
        with client(gateway, http2=http2) as http:
            answers = [http.get("/healthz") for _ in range(3)]
        assert {(answer.http_version, answer.status_code) for answer in answers} == {(version, 200)}
        fields = answers[0].headers
        assert fields["alt-svc"].startswith(f'h3=":{gateway.tls_url.rpartition(":")[2]}"')
        assert fields["x-content-type-options"] == "nosniff"
        assert fields["referrer-policy"]
        assert "strict-transport-security" in fields
        assert "server" not in fields


def test_without_tls_nothing_is_said_of_it_and_http_2_is_spoken_to_who_knows(gateway: Gateway):
    url = gateway.tls_url.replace("https", "http").rpartition(":")[0]
    environ = gateway.environ
    for http2 in (False, True):
        with httpx2.Client(http1=not http2, http2=http2, trust_env=False) as http:
            answer = http.get(f"{url}:{environ['PORT']}/healthz")
        assert (answer.http_version, answer.status_code) == ("HTTP/2" if http2 else "HTTP/1.1", 200)
        assert "strict-transport-security" not in answer.headers


def test_bodies_are_compressed_by_dues_alone(gateway: Gateway):
    with client(gateway, http2=True) as http:
        for coding in ("zstd", "br", "gzip", "identity"):
            answer = http.get("/openapi.json", headers={"Accept-Encoding": coding})
            assert answer.headers.get("content-encoding", "identity") == coding
            assert answer.json()["openapi"]
            again = http.get(
                "/openapi.json", headers={"Accept-Encoding": coding, "If-None-Match": answer.headers["etag"]}
            )
            assert (again.status_code, again.content) == (304, b"")


class Http3(QuicConnectionProtocol):
    """A client of HTTP/3 that asks for one path several times at once."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self._http = H3Connection(self._quic)
        self._done: dict[int, asyncio.Future[tuple[str, bytes]]] = {}
        self._got: dict[int, tuple[str, bytes]] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for found in self._http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self._got[found.stream_id] = (dict(found.headers)[b":status"].decode(), b"")
            elif isinstance(found, DataReceived):
                status, body = self._got[found.stream_id]
                self._got[found.stream_id] = (status, body + found.data)
            if isinstance(found, HeadersReceived | DataReceived) and found.stream_ended:
                self._done[found.stream_id].set_result(self._got[found.stream_id])

    async def get(self, host: str, path: str) -> tuple[str, bytes]:
        number = self._quic.get_next_available_stream_id()
        fields = {":method": "GET", ":scheme": "https", ":authority": host, ":path": path}
        self._done[number] = asyncio.get_running_loop().create_future()
        self._http.send_headers(number, [(n.encode(), v.encode()) for n, v in fields.items()], end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self._done[number], 20)


def test_http_3(gateway: Gateway):
    async def ask() -> list[tuple[str, bytes]]:
        port = int(gateway.tls_url.rpartition(":")[2])
        configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
        configuration.load_verify_locations(str(gateway.root_certificate))
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Http3) as http:
            assert isinstance(http, Http3)
            return list(await asyncio.gather(*(http.get(f"localhost:{port}", "/healthz") for _ in range(20))))

    assert asyncio.run(ask()) == [("200", b'{"status":"ok"}')] * 20
