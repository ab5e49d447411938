"""Likes per second, on a PostgreSQL that flushes each commit to disk: all clients like the same post, compared with
each client liking a post of its own."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from bench.client import Client
from bench.contest import DUES
from bench.data import serving_new_data
from bench.feed import Tokens
from bench.machine import LOAD_CORE, on_core
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import serving

_CLIENTS = 8
_ONE, _OWN = "all of one post", "each of a post of its own"


def run(rounds: int, seconds: float) -> Suite:
    suite = Suite("Likes", f"Likes put and taken back by {_CLIENTS} clients, each answered once it is on the disk.")
    with serving_new_data(1000) as data:
        tokens = Tokens(data).of(range(1, 1 + _CLIENTS))
        env = {**data.environ(), "PORT": "{port}"}
        with serving("dues", [*DUES, "server:app"], env, "/healthz") as base, on_core(LOAD_CORE):
            port = urlsplit(base).port or 0
            posts = asyncio.run(_posts(port, tokens))
            liked = {_ONE: posts[:1] * _CLIENTS, _OWN: posts}
            figures = interleave(
                rounds, {name: partial(_rate, port, tokens, each, seconds) for name, each in liked.items()}, "1/s"
            )
        suite.table("Likes put and taken back by eight clients", figures)
        suite.goal(Goal("likes of one post / of posts of their own", figures[_ONE].median / figures[_OWN].median, 0.8))
        suite.machine(data)
    return suite


async def _posts(port: int, tokens: Sequence[str]) -> list[str]:
    """Create a public post for each client. Returns: the ids."""
    author = Client(port, tokens[0], [])
    made = [await author.request("POST", "/v1/posts", {"body": "Hot", "privacy": "public"}) for _ in tokens]
    author.close()
    return [str(answer.json()["id"]) for answer in made]


def _rate(port: int, tokens: Sequence[str], posts: Sequence[str], seconds: float) -> float:
    return asyncio.run(_like(port, tokens, posts, seconds))


async def _like(port: int, tokens: Sequence[str], posts: Sequence[str], seconds: float) -> float:
    """Writes per second. Raises: RuntimeError if one failed."""
    until = time.perf_counter() + seconds

    async def go_on(token: str, post: str) -> int:
        client, count = Client(port, token, []), 0
        while time.perf_counter() < until:
            for method in ("PUT", "DELETE"):
                answer = await client.request(method, f"/v1/posts/{post}/like")
                if answer.status >= 300:
                    raise RuntimeError(f"{answer.status}: {answer.body[:300]!r}")
                count += 1
        client.close()
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*map(go_on, tokens, posts))
    return sum(counts) / (time.perf_counter() - began)
