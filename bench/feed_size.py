"""Whether feeds take longer with more posts, with more people followed, or deeper in the list. One client, nothing
cached."""

import contextlib
import urllib.request
from collections.abc import Callable

import ujson

from bench.contest import DUES
from bench.data import Data
from bench.feed import Tokens
from bench.feed_data import FOLLOWED, WRITERS, Size, reader_number, serving_feeds
from bench.load import load
from bench.report import Suite
from bench.rounds import Figure, Goal, interleave
from bench.servers import serving

FEW = Size(100_000, 20_000)
NEWSFEED, FEED = "/v1/newsfeed?include=author&cursor=", "/v1/feed?include=author&cursor="
_KINDS = ("popular", "quiet")
_STEP = 100


class _Site:
    """A Dues on feeds of some size, and its readers."""

    def __init__(self, stack: contextlib.ExitStack, size: Size) -> None:
        self.data: Data = stack.enter_context(serving_feeds(size, cached=False))
        env = {**self.data.environ(), "PORT": "{port}"}
        self.base = stack.enter_context(serving(f"dues-{size.name}", [*DUES, "server:app"], env, "/healthz"))
        self._tokens = Tokens(self.data)

    def headers(self, reader: int) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens.of([reader])[0]}"}

    def median_ms(self, path: str, reader: int, seconds: float) -> Callable[[], float]:
        def once() -> float:
            result = load(self.base, [path], seconds=seconds, connections=1, headers=self.headers(reader))
            if result.errors:
                raise RuntimeError(f"{path}: {result.errors} requests failed")
            return result.p50 * 1000

        return once

    def walk(self, path: str, reader: int, depth: int) -> tuple[str, int]:
        """The cursor of the row at `depth`, reached page by page as a client would, and the depth reached, which is
        less if the list ends earlier."""
        link, gone = f"{path}&fields=id&limit={_STEP}", 0
        while gone < depth:
            request = urllib.request.Request(self.base + link, headers=self.headers(reader))
            with urllib.request.urlopen(request, timeout=60) as answer:
                following = ujson.loads(answer.read())["links"]["next"]
            if following is None:
                break
            link, gone = following, gone + _STEP
        return link.rpartition("cursor=")[2], gone


def sizes(posts: int) -> tuple[Size, Size]:
    return FEW, Size(posts, FEW.followers)


def run(posts: int, depth: int, rounds: int, seconds: float) -> Suite:
    _, many = sizes(posts)
    suite = Suite(
        "Feeds by size",
        f"{FEW.posts:,} and {many.posts:,} posts by {WRITERS:,} people, each in a database of its own; one client,"
        " nothing cached. Popular people write much and are members of stores; quiet ones write seldom.",
    )
    with contextlib.ExitStack() as stack:
        small, large = _Site(stack, FEW), _Site(stack, many)
        _by_posts(suite, {f"{FEW.posts:,}": small, f"{many.posts:,}": large}, rounds, seconds)
        _by_depth(suite, large, depth, rounds, seconds)
        suite.machine(large.data)
    return suite


def _by_posts(suite: Suite, sites: dict[str, _Site], rounds: int, seconds: float) -> None:
    few, many = sites
    for kind in _KINDS:
        figures = interleave(
            rounds,
            {
                f"{followed:,} followed, {count} posts": site.median_ms(
                    NEWSFEED, reader_number(kind, followed), seconds
                )
                for followed in FOLLOWED
                for count, site in sites.items()
            },
            "ms",
        )
        suite.table(f"First page of the newsfeed of somebody who follows {kind} people", figures)
        for followed in FOLLOWED:
            ratio = (
                figures[f"{followed:,} followed, {many} posts"].median
                / figures[f"{followed:,} followed, {few} posts"].median
            )
            suite.goal(Goal(f"newsfeed of {followed:,} {kind} people: {many} posts / {few}", ratio, 2, at_most=True))


def _by_depth(suite: Suite, site: _Site, depth: int, rounds: int, seconds: float) -> None:
    """For readers who follow popular people; the lists of others may be too short."""
    contestants: dict[str, Callable[[], float]] = {}
    reached: dict[str, str] = {}
    lists = {f"newsfeed, {followed:,} followed": (NEWSFEED, followed) for followed in FOLLOWED[1:]}
    lists["feed, 1,000 followed"] = (FEED, 1000)
    for what, (path, followed) in lists.items():
        reader = reader_number("popular", followed)
        cursor, gone = site.walk(path, reader, depth)
        reached[what] = f"{what}, after {gone:,} posts"
        contestants[f"{what}, first page"] = site.median_ms(path, reader, seconds)
        contestants[reached[what]] = site.median_ms(path + cursor, reader, seconds)
    figures: dict[str, Figure] = interleave(rounds, contestants, "ms")
    suite.table("Page by cursor, at depth", figures)
    for what, deep in reached.items():
        ratio = figures[deep].median / figures[f"{what}, first page"].median
        suite.goal(Goal(f"{deep} / first page", ratio, 2, at_most=True))
