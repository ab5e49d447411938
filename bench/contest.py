"""The contestants of the read benchmarks: Dues and its peers, each in its own server process, on the same data."""

import contextlib
import itertools
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.data import Data
from bench.load import Result, load
from bench.servers import ROOT, peer_python, serving

# All contestants return the same document.
FIELDS = (
    "id,store_id,amount,currency,status,description,refunded_amount,version,created_at,updated_at,"
    "user.id,user.name,package.id,package.name,package.amount,package.currency,package.interval"
)
DUES_LIST = "/v1/stores/{store}/payments?include=user,package&fields=" + FIELDS
DUES = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
GTHREAD = ["-k", "gthread", "-w", "1", "--threads", "8", "--keep-alive", "30", "-b", "127.0.0.1:{port}"]
# Before the first payment: a filter from here on changes neither the rows nor their order.
_LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)
_seconds = itertools.count()


def dues_path(store: str, extra: str = "") -> str:
    return DUES_LIST.format(store=store) + extra


def new_paths(stores: list[str], count: int, extra: str = "") -> list[str]:
    """Paths of lists in Dues that were never requested before, so no cache has them. For PostgreSQL the work is the
    same."""
    moments = (f"{_LONG_AGO + timedelta(seconds=next(_seconds)):%Y-%m-%dT%H:%M:%SZ}" for _ in range(count))
    return [
        dues_path(store, f"&created_at[gte]={moment}{extra}")
        for store, moment in zip(itertools.cycle(stores), moments, strict=False)
    ]


def dues_environ(data: Data) -> dict[str, str]:
    """The settings of a Dues whose cached answers expire when those of its peers do, after the suite's longest part."""
    return {**data.environ(), "PORT": "{port}", "CACHE_DEFAULT_TIMEOUT": "600"}


class Contest:
    """All contestants, running."""

    def __init__(self, data: Data, stack: contextlib.ExitStack, stores: list[str]) -> None:
        self.data, self.stores = data, stores
        self.auth = {"Authorization": f"Bearer {data.token}"}
        python, gunicorn = str(peer_python()), [str(peer_python()), "-m", "gunicorn"]
        peers, env = data.peer_environ(), dues_environ(data)

        def start(name: str, argv: list[str], env: dict[str, str], ready: str) -> str:
            # Gunicorn reads gunicorn.conf.py from the folder where it starts, and that file is meant for Dues only.
            folder = ROOT if name.startswith("dues") else ROOT / "bench"
            return stack.enter_context(serving(name, argv, env, ready, folder))

        self.dues = start("dues", [*DUES, "server:app"], env, "/healthz")
        self.dues_threads = start("dues-threads", [*DUES, "wsgi:app"], env, "/healthz")
        nowhere = {"CACHE_REDIS_URL": "redis://127.0.0.1:1/0"}
        self.dues_without_redis = start("dues-without-redis", [*DUES, "server:app"], env | nowhere, "/healthz")
        size = str(len(self.fetch(self.dues + dues_path(stores[0]))[0]))
        bare = [*gunicorn, "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"]
        self.bare = start("bare", [*bare, "peers.bare_asgi:app"], {**peers, "BARE_BYTES": size}, "/")
        self.drf = start("drf", [*gunicorn, *GTHREAD, "peers.drf.wsgi:application"], peers, "/nothing")
        fastapi = [python, "-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "peers.fastapi_app:app"]
        self.fastapi = start("fastapi", fastapi, peers, "/nothing")
        self.flask = start("flask", [*gunicorn, *GTHREAD, "peers.flask_orm:app"], peers, "/nothing")
        self.raw = start("raw", [*gunicorn, *GTHREAD, "peers.flask_raw:app"], peers, "/nothing")

    def fetch(self, url: str) -> tuple[bytes, str]:
        """A body and its ETag."""
        request = urllib.request.Request(url, headers=self.auth)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read(), answer.headers.get("ETag", "")

    def warm(self) -> None:
        """Fill every contestant's cache with every page; for a peer that takes seconds."""
        for path in self.pages():
            self.fetch(self.dues + path)
            self.fetch(self.dues_threads + path)
        for path in [*self.peer_pages("cached"), *self.peer_pages("bytes")]:
            for base in (self.fastapi, self.flask, self.drf):
                self.fetch(base + path)

    def pages(self) -> list[str]:
        """The first page of every store, in Dues."""
        return [dues_path(store) for store in self.stores]

    def peer_pages(self, kind: str) -> list[str]:
        """The same in a peer; `kind` is "cached", "bytes", "uncached" or "uncounted"."""
        return [f"/{kind}/stores/{store}/payments" for store in self.stores]

    def load(self, base: str, paths: list[str], seconds: float) -> Result:
        """Send requests for `seconds`. Raises: RuntimeError if one failed."""
        result = load(base, paths, seconds=seconds, headers=self.auth)
        if result.errors:
            raise RuntimeError(f"{base}: {result.errors} requests failed")
        return result

    def rate(self, base: str, paths: list[str], seconds: float) -> Callable[[], float]:
        """A function that measures requests per second."""
        return lambda: self.load(base, paths, seconds).rate

    def rate_of_new(self, seconds: float, extra: str = "", base: str = "") -> Callable[[], float]:
        """The same for lists in Dues that are new each time."""
        return lambda: self.load(base or self.dues, new_paths(self.stores, 20_000, extra), seconds).rate
