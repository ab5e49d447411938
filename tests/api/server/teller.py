"""A server of one handler, which tells what was read of each request, and a client of bytes that talks to it."""

import asyncio
import contextlib
import json
import re
import socket
import struct
import threading
import time

from api.client_address import Proxies
from api.job_waiters import ClientGone
from api.reply import Reply, json_reply
from api.server.connections import Connections
from api.server.exchange import Exchange
from api.server.protocol import Connection
from dues.errors import Problem

MOST_BODY = 100_000


class Teller:
    """Serves on a port of its own, and answers each request with what was read of it."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self.seen: list[Exchange] = []
        self.gone = threading.Event()
        # What `/late` waits for before it asks for its body.
        self.late = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "Teller":
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    async def _start(self) -> None:
        self.connections = Connections(
            self._handle, most=self._most, keep_alive_s=2, most_body=MOST_BODY, proxies=Proxies("")
        )
        self._listener = listener = await self._loop.create_server(lambda: Connection(self.connections), "127.0.0.1", 0)
        self.port: int = listener.sockets[0].getsockname()[1]

    def __exit__(self, *_: object) -> None:
        self.close(0.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def close(self, within_s: float) -> None:
        self._loop.call_soon_threadsafe(self._listener.close)
        asyncio.run_coroutine_threadsafe(self.connections.close(within_s), self._loop).result(30)

    def _handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        if exchange.request.path == "/raises":
            raise KeyError("a secret")
        task = self._loop.create_task(self._tell(exchange))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _tell(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            if request.path == "/wait":
                await exchange.gone()
                self.gone.set()
            if request.path == "/late":
                await self._loop.run_in_executor(None, self.late.wait, 20)
            if request.path == "/parts":
                exchange.begin(Reply(None), b"")
                await exchange.part(b"ab")
                exchange.finish()
                return
            if request.path == "/large":
                exchange.send_reply(json_reply({"large": "x" * 4_000_000}), b"")
                return
            if request.path == "/endless":
                exchange.begin(Reply(None), b"")
                while True:
                    await exchange.part(b"x" * 65_536)
            body = b"" if request.path == "/early" else await exchange.body()
        except (ClientGone, TimeoutError):
            self.gone.set()
            return
        except Problem as problem:
            exchange.send_reply(json_reply({"code": problem.code}, problem.status), b"")
            return
        told = {"method": request.method, "path": request.path, "query": request.query, "token": request.token}
        fields = {name: value for name, value in request.fields.items() if name.startswith("x-")}
        exchange.send_reply(json_reply(told | {"fields": fields, "size": len(body), "body": body[:100].decode()}), b"")


class Client:
    def __init__(self, teller: Teller) -> None:
        self._socket = socket.create_connection(("127.0.0.1", teller.port), timeout=20)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def end(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def answers(self, count: int) -> list[tuple[int, dict[str, object]]]:
        """So many answers, or as many as come before the server closes."""
        found: list[tuple[int, dict[str, object]]] = []
        data = b""
        while len(found) < count:
            head, separator, rest = data.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if separator and length and len(rest) >= int(length[1]):
                body = rest[: int(length[1])]
                found.append((int(head[9:12]), json.loads(body)))
                data = rest[int(length[1]) :]
                continue
            try:
                part = self._socket.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            data += part
        return found

    def rest(self) -> bytes:
        """All that comes before the server closes."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self._socket.recv(65536):
                data += part
        return data

    def is_closed(self) -> bool:
        """Read to the end; whether the server has closed."""
        self.rest()
        return True

    def leave(self) -> None:
        """Close so that the server is told at once that nothing is read any more."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def ask(teller: Teller, *parts: bytes, count: int = 5) -> list[tuple[int, dict[str, object]]]:
    """All answers to what is sent part by part, the last of which ends the client's side."""
    with Client(teller) as client:
        for number, part in enumerate(parts):
            if number:
                time.sleep(0.05)
            with contextlib.suppress(OSError):
                client.send(part)
        with contextlib.suppress(OSError):
            client.end()
        return client.answers(count)
