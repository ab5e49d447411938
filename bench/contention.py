"""How long cached answers take while equally many clients keep the same process busy with uncached requests."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.contest import Contest, new_paths
from bench.report import Suite
from bench.rounds import Goal, interleave

# The misses begin this many seconds before the hits are measured, and end after them.
_LEAD_S = 1


def measure(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    """Measure the 99th percentile of hits, alone and with misses at the same time."""

    def of_dues(base: str) -> dict[str, Callable[[], float]]:
        return pair(base, contest.pages(), lambda: new_paths(contest.stores, 20_000))

    def pair(base: str, hits: list[str], misses: Callable[[], list[str]]) -> dict[str, Callable[[], float]]:
        def beside_misses() -> float:
            with ThreadPoolExecutor(1) as pool:
                misses_load = pool.submit(contest.load, base, misses(), seconds + 2 * _LEAD_S)
                time.sleep(_LEAD_S)
                p99 = contest.load(base, hits, seconds).p99
                misses_load.result()
            return p99 * 1000

        return {"alone": lambda: contest.load(base, hits, seconds).p99 * 1000, "crowded": beside_misses}

    contestants = {
        "Dues": of_dues(contest.dues),
        "Dues, gunicorn gthread wsgi:app": of_dues(contest.dues_threads),
        "Flask-Caching on gthread": pair(
            contest.flask, contest.peer_pages("cached"), lambda: contest.peer_pages("uncached")
        ),
    }
    figures = interleave(
        rounds,
        {f"{name}, {when}": once for name, both in contestants.items() for when, once in both.items()},
        "ms",
        warm_up=False,
    )
    suite.table("p99 of hits, alone and beside 16 connections of misses", figures)
    crowded = figures["Dues, crowded"].median
    suite.goal(Goal("p99 of hits beside misses / alone", crowded / figures["Dues, alone"].median, 8, at_most=True))
    for name in list(contestants)[1:]:
        ratio = crowded / figures[f"{name}, crowded"].median
        suite.goal(Goal(f"p99 of hits beside misses / {name}", ratio, 0.2, at_most=True))
