"""Gunicorn's worker that serves the application over the protocol of this package.

It stops as gunicorn asks it to: SIGTERM lets requests end within the graceful time-out, the connections that are kept
alive being told to close with their next answer; SIGQUIT and SIGINT end at once.
"""

import asyncio
import logging
import os
import resource
import signal
import traceback
from contextlib import suppress
from typing import Any

import uvloop
from gunicorn.workers.base import Worker as GunicornWorker

from api.client_address import Proxies
from api.cors import Cors
from api.server.application import Application
from api.server.connections import Connections
from api.server.protocol import Connection
from config import Settings, settings_or_exit

# How often gunicorn is told that this process lives, and how soon it notices that gunicorn does not.
_TICK_S = 0.5
# Open files that are not clients' connections: databases, caches, reports, logs.
_OTHER_FILES = 200
# This much of gunicorn's graceful time-out is left for what comes after the last answer.
_REST_S = 2.0


class Worker(GunicornWorker):
    """One web process."""

    wsgi: Application

    def init_signals(self) -> None:
        # Those that are handled are so on the loop; gunicorn's own handlers would swallow the exits of child processes.
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.siginterrupt(signal.SIGUSR1, False)
        signal.signal(signal.SIGABRT, self.handle_abort)

    def run(self) -> None:
        uvloop.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self._told_to_end, number)
        settings, application = settings_or_exit(), self.wsgi
        connections = Connections(
            application,
            most=_most_connections(settings),
            keep_alive_s=settings.keep_alive_s,
            most_body=settings.max_body_bytes,
            proxies=Proxies(settings.forwarded_allow_ips),
            cors=Cors(settings.cors_origins),
            takes_parts=application.takes_parts,
        )
        application.start()
        listeners = [
            await loop.create_server(lambda: Connection(connections), sock=listener.sock, backlog=self.cfg.backlog)
            for listener in self.sockets
        ]
        await self._live()
        for listener in listeners:
            listener.close()
        application.stop_waiting()
        await connections.close(max(0.0, self.cfg.graceful_timeout - _REST_S) if self.alive else 0.0)
        await application.stop()

    def _told_to_end(self, number: int) -> None:
        """`alive` tells whether requests may still end by themselves."""
        self.alive = self.alive and number == signal.SIGTERM
        self._stop.set()

    async def _live(self) -> None:
        """Until told to end, or nobody is left to tell: without gunicorn's main process this one would serve on,
        watched by nobody, and keep the port from the server that is started instead."""
        while not self._stop.is_set() and os.getppid() == self.ppid:
            self.notify()  # type: ignore[no-untyped-call]
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stop.wait()

    def handle_abort(self, sig: int, frame: Any) -> None:
        """Gunicorn has heard nothing of this process for too long, and kills it a second from now. The log says in what
        the event loop hangs, which can end nothing any more."""
        try:
            self.log.critical("the event loop hangs", extra={"stack": "".join(traceback.format_stack(frame))})
            logging.shutdown()
        finally:
            os._exit(1)


def _most_connections(settings: Settings) -> int:
    """As many as are set, and in any case fewer than there may be open files: the kernel's refusal of one more would
    reach nobody."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(16, allowed - _OTHER_FILES) if allowed != resource.RLIM_INFINITY else 100_000
    return min(settings.max_connections or most, most)
