"""The memory of one web process under hits, misses and payments at the same time, at the highest rate that it can
serve."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

from bench.contest import DUES, dues_path, new_paths
from bench.data import Data, serving_new_data, store_ids
from bench.load import Result, load, post
from bench.payments import BODY, payments_path
from bench.report import Suite
from bench.rounds import Figure, Goal
from bench.servers import serving
from bench.waits import web_process

_QUARTERS = ("first", "second", "third", "last")
# With these limits the cache of answers is full long before the second quarter, and Redis has forgotten a list before
# it is requested again.
_LIMITS = {"CACHE_MEMORY_BYTES": str(4 * 1024 * 1024), "CACHE_DEFAULT_TIMEOUT": "30"}
_LISTS = 60_000
_PAID = 10
# Fewer than the threads: writes have priority, and more of them would leave nothing for reads.
_PAYERS = 4


def run(minutes: float) -> Suite:
    suite = Suite(
        "Memory of a web process",
        f"Hits and misses over 16 connections each and payments over {_PAYERS}, for {minutes:g} minutes; sampled every"
        " second.",
    )
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_new_data(100_000))
        environ = {**data.environ(), **_LIMITS, "PORT": "{port}"}
        base = stack.enter_context(serving("dues", [*DUES, "server:app"], environ, "/healthz"))
        rss, loads = _under_load(data, base, minutes * 60)
        size = len(rss) // len(_QUARTERS)
        figures = {
            name: Figure(f"{name} quarter", "MB", tuple(rss[i * size : (i + 1) * size]))
            for i, name in enumerate(_QUARTERS)
        }
        suite.table("Resident memory", figures)
        suite.table("Load", {name: Figure(name, "requests/s", (found.rate,)) for name, found in loads.items()})
        failed = {name: Figure(name, "requests", (found.errors,)) for name, found in loads.items()}
        suite.table("Requests that failed", failed)
        ratio = figures["last"].median / figures["second"].median
        suite.goal(Goal("resident memory, last quarter / second", ratio, 1.05, at_most=True))
        served = sum(found.rate for found in loads.values()) * minutes * 60
        share = sum(found.errors for found in loads.values()) / max(served, 1)
        suite.goal(Goal("requests that failed / all", share, 0.01, at_most=True))
        suite.machine(data)
    return suite


def _under_load(data: Data, base: str, seconds: float) -> tuple[list[float], dict[str, Result]]:
    """The web process's resident memory at each second, in MB, and the results of each load."""
    headers, web = {"Authorization": f"Bearer {data.token}"}, web_process(base)
    # A payment invalidates its store's lists, so reads and payments use different stores; otherwise there would be no
    # hits.
    read, paid = store_ids()[:-_PAID], [payments_path(store) for store in store_ids()[-_PAID:]]
    pages, new = [dues_path(store) for store in read], new_paths(read, _LISTS)
    rss: list[float] = []
    with ThreadPoolExecutor(3) as pool:
        loads = {
            "hits": pool.submit(load, base, pages, seconds=seconds, headers=headers),
            "misses": pool.submit(load, base, new, seconds=seconds, headers=headers),
            "payments": pool.submit(post, base, paid, BODY, seconds=seconds, connections=_PAYERS, headers=headers),
        }
        began = time.monotonic()
        while len(rss) < seconds:
            rss.append(web.memory_info().rss / 1e6)
            time.sleep(max(0.0, began + len(rss) - time.monotonic()))
        return rss, {name: running.result() for name, running in loads.items()}
