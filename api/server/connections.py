"""What the connections of a process share: how many they may be, how long each may take, and their end."""

import asyncio
import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Protocol

from api.client_address import Proxies
from api.cors import Cors
from api.request import Request
from api.server.exchange import Exchange
from dues.observability.metrics import CONNECTIONS, CONNECTIONS_REFUSED

log = logging.getLogger("dues.server")

# How often the connections are searched for those whose time is up.
_SWEEP_S = 0.5
# This many connections beyond the most are let in: their health checks are answered, and all else is refused for now.
_RESERVE = 32
_REFUSAL_LOGGED_EVERY_S = 10.0
# How long kept-alive connections are still served, each one's next answer telling it to close, when the server ends.
_DRAIN_S = 1.0


class Connection(Protocol):
    """`deadline`: until when (`loop.time()`) what it waits for must have come."""

    deadline: float

    def time_out(self) -> None: ...

    def close_if_idle(self) -> None: ...

    def abort(self) -> None: ...


class Connections:
    """What the connections of a process share.

    handle: answers an exchange, and does not wait for it. most: the connections that may be open at once. takes_parts:
    whether the body of a request is read in parts.
    """

    def __init__(
        self,
        handle: Callable[[Exchange], None],
        *,
        most: int,
        keep_alive_s: float,
        most_body: int,
        proxies: Proxies,
        cors: Cors | None = None,
        takes_parts: Callable[[Request], bool] = lambda request: False,
    ) -> None:
        self.handle, self.most, self.most_body, self.proxies = handle, most, most_body, proxies
        self._cors = cors or Cors("")
        self.takes_parts = takes_parts
        self.keep_alive_s = keep_alive_s
        self.loop = asyncio.get_running_loop()
        self._open: set[Connection] = set()
        self.is_closing = False
        self._server_lines, self._lines_until = b"", 0.0
        self._refusal_logged_at = float("-inf")
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)

    def add(self, connection: "Connection") -> None:
        self._open.add(connection)

    def discard(self, connection: "Connection") -> None:
        self._open.discard(connection)

    def server_lines(self, exchange: Exchange | None) -> bytes:
        """The header fields of all answers, made anew each second, and those that a request's Origin asks for."""
        moment = self.loop.time()
        if moment >= self._lines_until:
            date = formatdate(usegmt=True)
            self._server_lines = f"date: {date}\r\nx-content-type-options: nosniff\r\n".encode()
            self._lines_until = moment + 1.0
        return self._server_lines + self._cors.lines(exchange.request.fields.get("origin") if exchange else None)

    def is_full(self) -> bool:
        """Whether only health checks are answered."""
        return len(self._open) > self.most

    def is_overfull(self) -> bool:
        """Whether not even those are."""
        return len(self._open) > self.most + _RESERVE

    def note_refusal(self) -> None:
        """Tell the operator that a connection was refused."""
        CONNECTIONS_REFUSED.inc()
        if self.loop.time() - self._refusal_logged_at > _REFUSAL_LOGGED_EVERY_S:
            self._refusal_logged_at = self.loop.time()
            log.warning("connections are refused: %d are open, and no more may be", len(self._open))

    def _sweep(self) -> None:
        """Look for connections whose time is up: cheaper than a timer for each of them and each of their bytes."""
        self._sweeper = self.loop.call_later(_SWEEP_S, self._sweep)
        moment = self.loop.time()
        CONNECTIONS.set(len(self._open))
        for connection in [each for each in self._open if each.deadline <= moment]:
            connection.time_out()

    async def close(self, within_s: float) -> None:
        """End all connections, each after its present answer; those that are idle are first given the time to send
        what may be under way, and are told with the answer to close. After `within_s` seconds all are cut."""
        self.is_closing = True
        ends_at = self.loop.time() + within_s
        drained_at = self.loop.time() + min(_DRAIN_S, within_s)
        while self._open and self.loop.time() < ends_at:
            if self.loop.time() >= drained_at:
                for connection in list(self._open):
                    connection.close_if_idle()
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.abort()
        self._sweeper.cancel()
