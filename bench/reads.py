"""Reads: the same list of payments, 20 per page with user and package embedded, from Dues and from its peers."""

import contextlib

from bench import contention
from bench.contest import Contest
from bench.data import serving_data, store_ids
from bench.report import Suite
from bench.rounds import Goal, interleave

# The peers: name, the contestant that caches as the peer's guide teaches, and how many times as fast Dues should be as
# the faster of the peer's two caches.
_PEERS = (
    ("FastAPI", "FastAPI, cached", 5),
    ("Flask", "Flask-Caching", 5),
    ("Django", "Django REST framework, cached", 15),
)


def run(rounds: int, seconds: float, payments: int) -> Suite:
    suite = Suite("Reads", f"{payments:,} payments in 100 stores; 20 a page with user and package; 16 connections.")
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(payments))
        contest = Contest(data, stack, store_ids())
        cached(suite, contest, rounds, seconds)
        uncached(suite, contest, rounds, seconds)
        uncounted(suite, contest, rounds, seconds)
        without_redis(suite, contest, rounds, seconds)
        contention.measure(suite, contest, min(rounds, 3), seconds)
        suite.machine(data)
    return suite


def cached(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """The first page of every store, over and over; in Dues also for clients that already have it."""
    pages, peers, by_hand = contest.pages(), contest.peer_pages("cached"), contest.peer_pages("bytes")
    contest.warm()
    known = [f"{path} {contest.fetch(contest.dues + path)[1]}" for path in pages]
    figures = interleave(
        rounds,
        {
            "bare ASGI callable": contest.rate(contest.bare, ["/"], seconds),
            "Dues": contest.rate(contest.dues, pages, seconds),
            "Dues, 304": contest.rate(contest.dues, known, seconds),
            "Dues, gunicorn gthread wsgi:app": contest.rate(contest.dues_threads, pages, seconds),
            "FastAPI, cached": contest.rate(contest.fastapi, peers, seconds),
            "FastAPI, cached by hand as bytes": contest.rate(contest.fastapi, by_hand, seconds),
            "Flask-Caching": contest.rate(contest.flask, peers, seconds),
            "Flask, cached by hand as bytes": contest.rate(contest.flask, by_hand, seconds),
            "Django REST framework, cached": contest.rate(contest.drf, peers, seconds),
            "Django, cached by hand as bytes": contest.rate(contest.drf, by_hand, seconds),
        },
        "requests/s",
        warm_up=False,
    )
    suite.table("Cached list, 100 pages in turn", figures)
    dues = figures["Dues"].median
    suite.goal(Goal("cached list / bare ASGI callable", dues / figures["bare ASGI callable"].median, 0.6))
    for peer, cached_by, goal in _PEERS:
        best = max(figures[cached_by].median, figures[f"{peer}, cached by hand as bytes"].median)
        suite.goal(Goal(f"cached list / {peer} cached, the faster way", dues / best, goal))
    suite.goal(Goal("304 on a cached list / hit", figures["Dues, 304"].median / dues, 1.0))


def uncached(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """Numbered pages with their total, never requested before: no cache can serve them."""
    peers = contest.peer_pages("uncached")
    figures = interleave(
        rounds,
        {
            "Dues": contest.rate_of_new(seconds),
            "hand-written Flask and SQL": contest.rate(contest.raw, peers, seconds),
            "FastAPI": contest.rate(contest.fastapi, peers, seconds),
            "Flask-SQLAlchemy": contest.rate(contest.flask, peers, seconds),
            "Django REST framework": contest.rate(contest.drf, peers, seconds),
        },
        "requests/s",
    )
    suite.table("Uncached list with its total and two includes", figures)
    dues = figures["Dues"].median
    suite.goal(Goal("uncached list / hand-written", dues / figures["hand-written Flask and SQL"].median, 1.0))
    suite.goal(Goal("uncached list / FastAPI", dues / figures["FastAPI"].median, 3))
    suite.goal(Goal("uncached list / DRF", dues / figures["Django REST framework"].median, 6))


def without_redis(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """Rates when Redis cannot be reached: PostgreSQL answers everything."""
    figures = interleave(
        rounds,
        {
            "one list after another, new each time": contest.rate_of_new(seconds),
            "the same without Redis": contest.rate_of_new(seconds, base=contest.dues_without_redis),
            "100 pages in turn": contest.rate(contest.dues, contest.pages(), seconds),
            "the same 100 without Redis": contest.rate(contest.dues_without_redis, contest.pages(), seconds),
        },
        "requests/s",
    )
    suite.table("Lists without Redis", figures)


def uncounted(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """Uncached pages by cursor, which need no total. The peers are left out, as their guides always teach to count."""
    figures = interleave(
        rounds,
        {
            "Dues": contest.rate_of_new(seconds, "&cursor="),
            "hand-written Flask and SQL": contest.rate(contest.raw, contest.peer_pages("uncounted"), seconds),
        },
        "requests/s",
    )
    suite.table("Uncached list by cursor and two includes", figures)
    ratio = figures["Dues"].median / figures["hand-written Flask and SQL"].median
    suite.goal(Goal("uncached list by cursor / hand-written", ratio, 1.0))
