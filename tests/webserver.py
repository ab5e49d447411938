"""Dues' web server as its own process, as the Procfile runs it."""

import subprocess
import urllib.request
from types import TracebackType

import psutil

from local.ports import free_port
from tests.forks import Forked
from tests.serve_web import ROOT, serve_web
from tests.servers import Backing, wait_until


class WebServer:
    """`gunicorn server:app` (or `target`) on a free port (or `PORT`), for the length of a `with` block."""

    def __init__(self, servers: Backing, *, threads: int = 4, target: str = "server:app", **environ: str) -> None:
        self.port = int(environ.pop("PORT", 0)) or free_port()
        self.target = target
        self._arguments = ["-c", str(ROOT / "gunicorn.conf.py"), target]
        self._environ = servers.environ(PORT=str(self.port), WEB_THREADS=str(threads), **environ)
        self._count = int(self._environ.get("WEB_CONCURRENCY", "1"))
        self.log = servers.home / f"web-{self.port}.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "WebServer":
        self.process = Forked(serve_web, self._arguments, self._environ, str(self.log))
        try:
            wait_until(self._is_up, 30, "the web server")
            # The first of several processes answers before the last is there.
            wait_until(lambda: len(self.children()) >= self._count, 30, f"{self._count} web processes")
        except BaseException:
            self._end()
            raise
        return self

    def children(self) -> set[int]:
        """The ids of the processes that serve."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"the web server ended as it started:\n{self.log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
