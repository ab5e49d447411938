"""Newsfeeds of Dues and of its peers, in one interleaved run on the same rows.

The readers are members of no store, since the peers have no stores. The peers take the reader's id from the path and
check no token, which saves them a query; Dues checks a token each time. The peers' caches keep a feed for ten minutes
and may be stale; answers of Dues never are.
"""

import contextlib
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import psycopg2
import ujson

from bench.contest import DUES, GTHREAD
from bench.data import Data
from bench.feed_data import reader_number, user_id
from bench.load import load
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import ROOT, peer_python, serving

_READERS = (100, 1000)
_FIELDS = "id,title,body,privacy,likes_count,comments_count,liked_by_me,created_at,author.id,author.name"
_PATH = f"/v1/newsfeed?cursor=&include=author&fields={_FIELDS}"
# A contestant that takes longer than this for one request is measured by that request only: 16 at once would keep the
# database busy after the time is over, and slow down whoever is measured next.
_SLOW_S = 0.5
# A request that takes longer counts as this long, in the peer's favour; the peer's caches are then not measured.
_LONGEST_S = 60
_CANCEL = "select pg_cancel_backend(pid) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()"
# How many times as fast as a peer Dues should be: with the faster of the peer's caches, and without any cache.
_CACHED, _UNCACHED = 3, 6
_KINDS = ("uncached", "cached", "bytes")
_NAMES = {"uncached": "", "cached": ", cached for each user", "bytes": ", cached by hand as bytes"}


def measure(suite: Suite, data: Data, tokens: dict[int, str], rounds: int, seconds: float) -> None:
    """`tokens`: a token for each reader in `readers()`, by the reader's number."""
    with contextlib.ExitStack() as stack:
        gunicorn, peers = [str(peer_python()), "-m", "gunicorn"], data.peer_environ()
        env = {**data.environ(), "PORT": "{port}"}

        def start(name: str, argv: list[str], environ: dict[str, str], ready: str) -> str:
            # Gunicorn reads gunicorn.conf.py from the folder where it starts, and that file is meant for Dues only.
            folder = ROOT if name.startswith("dues") else ROOT / "bench"
            return stack.enter_context(serving(name, argv, environ, ready, folder))

        dues = start("dues-feed", [*DUES, "server:app"], env, "/healthz")
        nowhere = env | {"CACHE_REDIS_URL": "redis://127.0.0.1:1/0"}
        dues_uncached = start("dues-feed-uncached", [*DUES, "server:app"], nowhere, "/healthz")
        drf = start("drf-feed", [*gunicorn, *GTHREAD, "peers.drf.wsgi:application"], peers, "/nothing")
        microblog = start("microblog", [*gunicorn, *GTHREAD, "peers.microblog:app"], peers, "/nothing")
        for followed in _READERS:
            reader = reader_number("quiet", followed)
            headers = {"Authorization": f"Bearer {tokens[reader]}"}

            def rate(base: str, path: str, headers: dict[str, str] = headers) -> Callable[[], float]:
                return lambda: _rate(base, path, headers, seconds)

            contestants = {"Dues": rate(dues, _PATH), "Dues, nothing cached": rate(dues_uncached, _PATH)}
            shown = {"Django REST framework": drf}
            if followed == _READERS[0]:
                # Its query joins every post with every follower of its author: the work is the same for every reader.
                shown["microblog-api"] = microblog
            for name, base in shown.items():
                for kind in _KINDS:
                    path = f"/{kind}/newsfeed/{user_id(reader)}"
                    took = _require_same(dues + _PATH, base + path, headers, data)
                    is_slow = kind == "uncached" and took > _SLOW_S
                    contestants[name + _NAMES[kind]] = partial(float, 1 / took) if is_slow else rate(base, path)
                    if took >= _LONGEST_S:
                        break
            figures = interleave(rounds, contestants, "requests/s", warm_up=False)
            suite.table(f"Newsfeed's first page, {followed:,} followed, 16 connections", figures)
            for peer in shown:
                cached = [
                    figures[peer + _NAMES[kind]] for kind in ("cached", "bytes") if peer + _NAMES[kind] in figures
                ]
                what = f"newsfeed of {followed:,} followed / {peer}"
                if cached:
                    best = max(figure.median for figure in cached)
                    suite.goal(Goal(f"{what} cached, the faster way", figures["Dues"].median / best, _CACHED))
                uncached = figures["Dues, nothing cached"].median / figures[peer].median
                suite.goal(Goal(f"{what}, nothing cached", uncached, _UNCACHED))


def readers() -> list[int]:
    return [reader_number("quiet", followed) for followed in _READERS]


def _rate(base: str, path: str, headers: dict[str, str], seconds: float) -> float:
    """Requests per second. Raises: RuntimeError if a request failed."""
    result = load(base, [path], seconds=seconds, headers=headers)
    if result.errors:
        raise RuntimeError(f"{base}{path}: {result.errors} requests failed")
    return result.rate


def _require_same(ours: str, theirs: str, headers: dict[str, str], data: Data) -> float:
    """Check that a peer shows the same posts as Dues. Raises: RuntimeError if it does not. Returns: how many seconds
    the peer took; `_LONGEST_S` if it was stopped then, in which case its answer is unknown."""
    expected, began = _shown(ours, headers), time.perf_counter()
    try:
        found = _shown(theirs, headers)
    except TimeoutError:
        print(f"  gave up after {_LONGEST_S} s: {theirs}", flush=True)
        with closing(psycopg2.connect(data.database_url)) as connection, connection.cursor() as cursor:
            cursor.execute(_CANCEL)
        return _LONGEST_S
    if expected != found:
        raise RuntimeError(f"{theirs} does not show what {ours} shows")
    return time.perf_counter() - began


def _shown(url: str, headers: dict[str, str]) -> list[tuple[object, ...]]:
    document = _fetch(url, headers)
    posts = document["results"] if "results" in document else document["data"]
    return [(post["id"], post["likes_count"], post["liked_by_me"], post["author"]["id"]) for post in posts]


def _fetch(url: str, headers: dict[str, str]) -> dict[str, Any]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_LONGEST_S) as answer:
        document: dict[str, Any] = ujson.loads(answer.read())
    return document
