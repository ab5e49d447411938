"""Whether a list takes longer the deeper one pages into it, or the more rows there are. One client, nothing cached."""

import contextlib
import urllib.request
from collections.abc import Callable

import ujson

from bench.contest import DUES, dues_path
from bench.data import Data, serving_data, store_ids
from bench.load import load
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import serving
from dues.reads.compile import COUNTED_ROWS

_FEW = 10_000
_STEP = 100


def run(rounds: int, seconds: float, many: int, depth: int) -> Suite:
    suite = Suite(
        "Depth and size",
        f"A store with {_FEW:,} payments, and one with {many:,}, each alone in its database; one client."
        f" Totals above {COUNTED_ROWS:,} are estimates, which a process keeps for some seconds.",
    )
    with contextlib.ExitStack() as stack:
        small, large = (stack.enter_context(serving_data(count, 1, cached=False)) for count in (_FEW, many))
        few, lots = (_serve(stack, data) for data in (small, large))
        _depth(suite, lots, large, rounds, seconds, depth)
        _size(suite, {f"{_FEW:,}": (few, small), f"{many:,}": (lots, large)}, rounds, seconds)
        suite.machine(large)
    return suite


def _serve(stack: contextlib.ExitStack, data: Data) -> str:
    argv = [*DUES, "server:app"]
    return stack.enter_context(serving("dues", argv, {**data.environ(), "PORT": "{port}"}, "/healthz"))


def _depth(suite: Suite, base: str, data: Data, rounds: int, seconds: float, depth: int) -> None:
    deep = f"&cursor={walk(base, data, depth)}"
    first, there = "first page", f"after {depth:,} rows"
    figures = interleave(
        rounds,
        {first: median_ms(base, data, "&cursor=", seconds), there: median_ms(base, data, deep, seconds)},
        "ms",
    )
    suite.table("Page by cursor, at depth, median of one client", figures)
    ratio = figures[there].median / figures[first].median
    suite.goal(Goal(f"page after {depth:,} rows / first page", ratio, 1.2, at_most=True))


def walk(base: str, data: Data, depth: int) -> str:
    """The cursor of the row at `depth`, reached page by page as a client would."""
    path = f"/v1/stores/{store_ids(1)[0]}/payments?fields=id&limit={_STEP}&cursor="
    for _ in range(depth // _STEP):
        request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {data.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            path = ujson.loads(answer.read())["links"]["next"]
    return path.rpartition("cursor=")[2]


def _size(suite: Suite, stores: dict[str, tuple[str, Data]], rounds: int, seconds: float) -> None:
    lists = {
        "by cursor": "&cursor=",
        "with its total": "",
        "of one status": "&status=failed&cursor=",
        "by amount": "&sort=-amount&cursor=",
    }
    figures = interleave(
        rounds,
        {
            f"{what}, {count} payments": median_ms(base, data, extra, seconds)
            for what, extra in lists.items()
            for count, (base, data) in stores.items()
        },
        "ms",
    )
    suite.table("First page, by number of payments, median of one client", figures)
    few, many = stores
    for what in lists:
        ratio = figures[f"{what}, {many} payments"].median / figures[f"{what}, {few} payments"].median
        suite.goal(Goal(f"first page {what}: {many} payments / {few}", ratio, 1.2, at_most=True))


def median_ms(base: str, data: Data, extra: str, seconds: float) -> Callable[[], float]:
    headers = {"Authorization": f"Bearer {data.token}"}
    path = dues_path(store_ids(1)[0], extra)

    def once() -> float:
        result = load(base, [path], seconds=seconds, connections=1, headers=headers)
        if result.errors:
            raise RuntimeError(f"{path}: {result.errors} requests failed")
        return result.p50 * 1000

    return once
