"""Reads: the same list of payments, user and package embedded, 20 a page, from Dues and from its peers."""

import contextlib
import sys
import urllib.request
from collections.abc import Callable

from bench.data import Data, serving_data, store_ids
from bench.load import Result, load
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import ROOT, peer_python, serving

# The same document from everybody.
FIELDS = (
    "id,store_id,amount,currency,status,description,refunded_amount,version,created_at,updated_at,"
    "user.id,user.name,package.id,package.name,package.amount,package.currency,package.interval"
)
DUES_LIST = "/v1/stores/{store}/payments?include=user,package&fields=" + FIELDS
GTHREAD = ["-k", "gthread", "-w", "1", "--threads", "8", "--keep-alive", "30", "-b", "127.0.0.1:{port}"]


class Contest:
    """All contestants, up and warm."""

    def __init__(self, data: Data, stack: contextlib.ExitStack, stores: list[str]) -> None:
        self.data, self.stores = data, stores
        self.auth = {"Authorization": f"Bearer {data.token}"}
        python, gunicorn = str(peer_python()), [str(peer_python()), "-m", "gunicorn"]
        peers = data.peer_environ()
        dues = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py"]
        first = stores[0]

        def start(name: str, argv: list[str], env: dict[str, str], ready: str) -> str:
            # Gunicorn reads the gunicorn.conf.py of the folder it is started in, and that one is ours alone.
            return stack.enter_context(serving(name, argv, env, ready, ROOT if name == "dues" else ROOT / "bench"))

        self.dues = start("dues", [*dues, "asgi:app"], {**data.environ(), "PORT": "{port}"}, "/healthz")
        size = str(len(self.fetch(self.dues + self.dues_path(first))))
        bare = [sys.executable, "-m", "gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-b", "127.0.0.1:{port}"]
        self.bare = start("bare", [*bare, "peers.bare_asgi:app"], {**peers, "BARE_BYTES": size}, "/")
        self.drf = start("drf", [*gunicorn, *GTHREAD, "peers.drf.wsgi:application"], peers, "/nothing")
        fastapi = [python, "-m", "uvicorn", "--port", "{port}", "--log-level", "warning", "peers.fastapi_app:app"]
        self.fastapi = start("fastapi", fastapi, peers, "/nothing")
        self.flask = start("flask", [*gunicorn, *GTHREAD, "peers.flask_orm:app"], peers, "/nothing")
        self.raw = start("raw", [*gunicorn, *GTHREAD, "peers.flask_raw:app"], peers, "/nothing")

    def dues_path(self, store: str, extra: str = "") -> str:
        return DUES_LIST.format(store=store) + extra

    def fetch(self, url: str) -> bytes:
        request = urllib.request.Request(url, headers=self.auth)
        with urllib.request.urlopen(request, timeout=30) as answer:
            body: bytes = answer.read()
            return body

    def measure(self, base: str, paths: list[str], seconds: float, **headers: str) -> Callable[[], float]:
        def once() -> float:
            result: Result = load(base, paths, seconds=seconds, headers={**self.auth, **headers})
            if result.errors:
                raise RuntimeError(f"{base}: {result.errors} requests failed")
            return result.rate

        return once


def run(rounds: int, seconds: float, payments: int) -> Suite:
    suite = Suite("Reads", f"{payments:,} payments in 100 stores; 20 a page with user and package; 16 connections.")
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(payments))
        contest = Contest(data, stack, store_ids())
        _cached(suite, contest, rounds, seconds)
        _uncached(suite, contest, rounds, seconds)
        suite.machine(data)
    return suite


def _cached(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """The first page of every store, over and over."""
    paths = [contest.dues_path(store) for store in contest.stores]
    peers = [f"/cached/stores/{store}/payments" for store in contest.stores]
    figures = interleave(
        rounds,
        {
            "bare ASGI callable": contest.measure(contest.bare, ["/"], seconds),
            "Dues": contest.measure(contest.dues, paths, seconds),
            "FastAPI, cached": contest.measure(contest.fastapi, peers, seconds),
            "Flask-Caching": contest.measure(contest.flask, peers, seconds),
            "Django REST framework, cached": contest.measure(contest.drf, peers, seconds),
        },
        "requests/s",
    )
    suite.table("Cached list, 100 pages in turn", figures)
    dues = figures["Dues"].median
    suite.goal(Goal("cached list / bare ASGI callable", dues / figures["bare ASGI callable"].median, 0.6))
    suite.goal(Goal("cached list / FastAPI cached", dues / figures["FastAPI, cached"].median, 5))
    suite.goal(Goal("cached list / DRF cached", dues / figures["Django REST framework, cached"].median, 15))


def _uncached(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """Pages that nobody has asked for before: the cache of Dues can serve none of them."""
    asked = iter(range(10**9))

    def dues() -> float:
        number = next(asked)
        # An amount that no payment has makes each URL new and leaves the rows the same.
        paths = [
            contest.dues_path(store, f"&amount[gte]=-{number * 100_000 + i}")
            for i, store in enumerate(contest.stores * 300)
        ]
        return contest.measure(contest.dues, paths, seconds)()

    peers = [f"/uncached/stores/{store}/payments" for store in contest.stores]
    figures = interleave(
        rounds,
        {
            "Dues": dues,
            "hand-written Flask and SQL": contest.measure(contest.raw, peers, seconds),
            "FastAPI": contest.measure(contest.fastapi, peers, seconds),
            "Flask-SQLAlchemy": contest.measure(contest.flask, peers, seconds),
            "Django REST framework": contest.measure(contest.drf, peers, seconds),
        },
        "requests/s",
    )
    suite.table("Uncached list with two includes", figures)
    mine = figures["Dues"].median
    suite.goal(Goal("uncached list / hand-written", mine / figures["hand-written Flask and SQL"].median, 1.0))
    suite.goal(Goal("uncached list / FastAPI", mine / figures["FastAPI"].median, 3))
    suite.goal(Goal("uncached list / DRF", mine / figures["Django REST framework"].median, 6))
