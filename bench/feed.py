"""Feeds: latency by the number of people followed, the cost of a popular author's post, the share of cache hits, and
what a cache that expires feeds by time would have answered instead."""

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg2
import redis

from bench import feed_contest
from bench.client import Answer, Client
from bench.contest import DUES
from bench.data import Data
from bench.feed_data import FOLLOWED, STAR, WRITERS, Size, reader_number, serving_feeds, user_id
from bench.report import Suite
from bench.rounds import Figure
from bench.servers import serving
from dues.accounts.actor import SCOPES
from dues.accounts.tokens import hash_token
from dues.clock import now
from dues.ids import new_id

NEWSFEED = "/v1/newsfeed?cursor="
_FIELDS = (
    "title",
    "body",
    "privacy",
    "likes_count",
    "comments_count",
    "liked_by_me",
    "created_at",
    "author_id",
    "links",
)
_LIKE = ("user_id", "post_id", "created_at", "links", "user.id", "user.name", "user.followed_by_me")
_NUMBERS = re.compile(rb'"(likes|comments)_count":\d+')
# The mixed workload: readers in all, readers at a time, and the lifetimes of feeds in a cache that expires by time, in
# seconds.
_READERS, _AT_ONCE, _LIVES_S = 1000, 50, (5.0, 60.0)


def run(size: Size, operations: int, seconds: float, rounds: int) -> Suite:
    suite = Suite(
        "Feeds",
        f"{size.posts:,} posts by {WRITERS:,} people, a star whom {size.followers:,} follow; one web process.",
    )
    with serving_feeds(size) as data:
        tokens = Tokens(data)
        env = {**data.environ(), "PORT": "{port}"}
        with serving("dues", [*DUES, "server:app"], env, "/healthz") as base:
            port = urlsplit(base).port or 0
            asyncio.run(_all(suite, port, tokens, data, size, operations))
        readers = feed_contest.readers()
        known = dict(zip(readers, tokens.of(readers), strict=True))
        feed_contest.measure(suite, data, known, rounds, min(seconds, 5))
        suite.machine(data)
    return suite


async def _all(suite: Suite, port: int, tokens: "Tokens", data: Data, size: Size, operations: int) -> None:
    await _by_followed(suite, port, tokens)
    await _star(suite, port, tokens, data, size)
    await _liked_post(suite, port, tokens, data)
    await _mix(suite, port, tokens, operations)


class Tokens:
    """API tokens by user number, created when they are first requested."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self._made: dict[int, str] = {}

    def of(self, numbers: Sequence[int]) -> list[str]:
        missing = [number for number in dict.fromkeys(numbers) if number not in self._made]
        with (
            closing(psycopg2.connect(self._data.database_url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            for number in missing:
                self._made[number] = f"dues_feed_{new_id().hex}"
                cursor.execute(
                    "insert into api_tokens(id, user_id, name, token_hash, scopes, expires_at)"
                    " values (%s, %s, 'bench', %s, %s, %s)",
                    (
                        str(new_id()),
                        user_id(number),
                        hash_token(self._made[number]),
                        list(SCOPES),
                        now() + timedelta(days=1),
                    ),
                )
        return [self._made[number] for number in numbers]


async def _ms(asking: Awaitable[Answer]) -> tuple[float, Answer]:
    began = time.perf_counter()
    answer = await asking
    took = (time.perf_counter() - began) * 1000
    if answer.status >= 300:
        raise RuntimeError(f"{answer.status}: {answer.body[:300]!r}")
    return took, answer


def _figures(found: dict[str, list[float]], unit: str = "ms") -> dict[str, Figure]:
    return {name: Figure(name, unit, tuple(values)) for name, values in found.items()}


async def _by_followed(suite: Suite, port: int, tokens: Tokens) -> None:
    """The first page, both in a form that is cached and in new forms that are not."""
    found: dict[str, list[float]] = {}
    for kind in ("popular", "quiet"):
        for followed in FOLLOWED:
            (token,) = tokens.of([reader_number(kind, followed)])
            client = Client(port, token, [])
            for is_new in (True, False):
                times = []
                for _ in range(33):
                    shown = random.sample(_FIELDS, len(_FIELDS)) if is_new else list(_FIELDS)
                    path = f"{NEWSFEED}&fields=id,{','.join(shown)}&include=author"
                    times.append((await _ms(client.request("GET", path)))[0])
                name = f"{kind}, {followed:,} followed, {'made' if is_new else 'kept'}"
                found[name] = times[3:]
    suite.table("First page of the newsfeed with 20 posts, one client", _figures(found))


async def _star(suite: Suite, port: int, tokens: Tokens, data: Data, size: Size) -> None:
    """The star posts. The next read of each of 20 followers, whose feeds were cached, must show the post."""
    (star,) = tokens.of([STAR])
    first = WRITERS + 100
    followers = [Client(port, token, []) for token in tokens.of(range(first, first + min(20, size.followers)))]
    author = Client(port, star, [])
    found: dict[str, list[float]] = {"the post": [], "the next read of a follower": []}
    commands: list[float] = []
    with closing(redis.Redis.from_url(data.redis_url)) as operator:
        for _ in range(5):
            for client in followers:
                await _ms(client.request("GET", NEWSFEED))
            before = _commands(operator)
            took, answer = await _ms(author.request("POST", "/v1/posts", {"body": "Hello", "privacy": "followers"}))
            commands.append(_commands(operator) - before)
            found["the post"].append(took)
            for client in followers:
                took, seen = await _ms(client.request("GET", NEWSFEED))
                assert seen.json()["data"][0]["id"] == answer.json()["id"], "a follower does not see the post"
                found["the next read of a follower"].append(took)
    suite.table(f"Somebody whom {size.followers:,} follow posts", _figures(found))
    suite.table("What that asks of Redis, whoever follows", _figures({"commands of one post": commands}, "commands"))


def _commands(operator: "redis.Redis") -> float:
    """The number of commands that Redis has run, without those that ask for this number."""
    stats = operator.info("commandstats")
    assert isinstance(stats, dict)
    return float(sum(each["calls"] for name, each in stats.items() if name != "cmdstat_info"))


async def _liked_post(suite: Suite, port: int, tokens: Tokens, data: Data) -> None:
    """The post with the most likes and one with hardly any: read, and liked once more. No read is answered from the
    cache."""
    (token,) = tokens.of([300])
    client = Client(port, token, [])
    found: dict[str, list[float]] = {}
    (most, likes), (few, _) = _by_likes(data)
    for post, name in ((most, "most likes"), (few, "few likes")):
        path = f"/v1/posts/{post}"
        asked = {
            "the post": (f"{path}?fields=", _FIELDS),
            "who likes it": (f"{path}/likes?cursor=&include=user&fields=", _LIKE),
        }
        for what, (beginning, names) in asked.items():
            took = [
                (await _ms(client.request("GET", beginning + ",".join(random.sample(names, len(names))))))[0]
                for _ in range(33)
            ]
            found[f"{name}: {what}"] = took[3:]
        found[f"{name}: a like"] = []
        for _ in range(20):
            found[f"{name}: a like"].append((await _ms(client.request("PUT", f"{path}/like")))[0])
            await _ms(client.request("DELETE", f"{path}/like"))
    suite.table(f"A post with {likes:,} likes, and one with few, one client", _figures(found))


def _by_likes(data: Data) -> tuple[tuple[str, int], tuple[str, int]]:
    """The public post with the most likes and the one with the fewest: id and number of likes of each."""
    ranked = (
        "select s.post_id::text, s.likes from post_stats s join posts p on p.id = s.post_id"
        " where p.privacy = 'public' and p.status = 'published' order by s.likes {} limit 1"
    )
    with closing(psycopg2.connect(data.database_url)) as connection, connection.cursor() as cursor:

        def first(order: str) -> tuple[str, int]:
            cursor.execute(ranked.format(order))
            post_id, likes = cursor.fetchone() or ("", 0)
            return post_id, likes

        return first("desc"), first("asc")


@dataclass
class _Mix:
    """The reads of the mixed workload, and what a cache that expires by time would have answered."""

    reads: int = 0
    hits: int = 0
    # Misses whose answer differs from the reader's previous one only in the numbers of likes and comments, if at all.
    only_numbers: int = 0
    by_time_hits: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_LIVES_S, 0))
    by_time_stale: dict[float, int] = field(default_factory=lambda: dict.fromkeys(_LIVES_S, 0))
    # For each lifetime and reader: when their feed was cached, and its ETag.
    kept: dict[tuple[float, int], tuple[float, str]] = field(default_factory=dict)
    shown: dict[int, bytes] = field(default_factory=dict)

    def note(self, reader: int, answer: Answer, moment: float) -> None:
        self.reads += 1
        is_hit = "desc=hit" in answer.headers.get("server-timing", "")
        self.hits += is_hit
        before, self.shown[reader] = self.shown.get(reader), _NUMBERS.sub(b"", answer.body)
        self.only_numbers += not is_hit and before == self.shown[reader]
        etag = answer.headers["etag"]
        for life_s in _LIVES_S:
            made, kept = self.kept.get((life_s, reader), (float("-inf"), ""))
            if moment - made < life_s:
                self.by_time_hits[life_s] += 1
                self.by_time_stale[life_s] += kept != etag
            else:
                self.kept[life_s, reader] = moment, etag


async def _mix(suite: Suite, port: int, tokens: Tokens, operations: int) -> None:
    """95 % reads of newsfeeds, by 50 readers at a time with 12 reads per visit; of the writes 65 % are likes, 15 %
    comments and 20 % posts. Readers, authors and liked posts follow Zipf's law. For the cache that expires by time,
    twenty operations count as one second."""
    draw, mix = random.Random(7), _Mix()
    everybody = dict(zip(range(_READERS), tokens.of(range(1000, 1000 + _READERS)), strict=True))
    present = [[_zipf(draw, _READERS), 12] for _ in range(_AT_ONCE)]
    client_of: dict[str, Client] = {}
    newest: list[str] = []
    for number in range(operations):
        place = draw.randrange(_AT_ONCE)
        reader = present[place][0]
        client = client_of.setdefault(everybody[reader], Client(port, everybody[reader], []))
        if draw.random() < 0.95 or not newest:
            _, answer = await _ms(client.request("GET", NEWSFEED))
            mix.note(reader, answer, number / 20)
            newest = newest or [each["id"] for each in answer.json()["data"]]
        else:
            await _write(client, draw, newest)
        present[place][1] -= 1
        if not present[place][1]:
            present[place] = [_zipf(draw, _READERS), 12]
    shares = {"hits, never stale": [100 * mix.hits / mix.reads]}
    shares["misses where only numbers of likes and comments differ"] = [100 * mix.only_numbers / mix.reads]
    for life_s in _LIVES_S:
        shares[f"hits, dropped after {life_s:g} s"] = [100 * mix.by_time_hits[life_s] / mix.reads]
        shares[f"stale answers, dropped after {life_s:g} s"] = [100 * mix.by_time_stale[life_s] / mix.reads]
    suite.table(f"Newsfeeds, 95 % reads, {_READERS:,} readers, of reads", _figures(shares, "%"))


async def _write(client: Client, draw: random.Random, newest: list[str]) -> None:
    post, chance = newest[_zipf(draw, len(newest))], draw.random()
    if chance < 0.65:
        await client.request("PUT", f"/v1/posts/{post}/like")
    elif chance < 0.8:
        await client.request("POST", f"/v1/posts/{post}/comments", {"body": "Well said"})
    else:
        answer = await client.request("POST", "/v1/posts", {"body": "News", "privacy": "public"})
        newest.insert(0, answer.json()["id"])


def _zipf(draw: random.Random, count: int, shift: float = 20) -> int:
    return min(count - 1, int(shift * ((1 + count / shift) ** draw.random() - 1)))
