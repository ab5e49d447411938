"""The freshness prover: after a write is acknowledged, no read that begins later may get an older answer.

It runs four web processes. Eight writers change packages, profiles, staff roles, posts, comments and memberships and
make payments, five times a second each. After each acknowledged write, every process is sent a read on a warm
connection; posts are read by a follower of their author, in feeds and individually. Sixteen readers read all the time,
and each checks that no row goes back behind a value that any answer had shown before the request. While a write is
under way, a package or a newsfeed is read in a form that was never requested before, past all caches, so that the
commit is seen at once.

With `--replicas`, two standbys answer some of the reads, one of them two seconds late. With `--failovers`, the primary
dies now and then and a standby takes over; commits wait for a standby, so that no acknowledged write is lost.

With `--faults`, Redis is killed, flushed, restored from an old copy, paused and filled up, one process is cut off from
it, and web processes are killed. With `--broken`, tags are touched after the commit, and stale reads must be found.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bench.client import Answer, Client
from bench.prover import Cluster, FaultInjector, ProverPost

WRITERS, READERS, WRITES_A_SECOND = 8, 16, 5


@dataclass
class Count:
    """What was observed. A read is stale if its answer is older than what was acknowledged before it began."""

    writes: int = 0
    reads: int = 0
    hits: int = 0
    background: int = 0
    background_hits: int = 0
    failed: Counter[int | None] = field(default_factory=Counter)
    reopened: list[float] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    by_replicas: Counter[str] = field(default_factory=Counter)

    def share_of_hits(self) -> float:
        return (self.hits + self.background_hits) / max(1, self.reads + self.background)


@dataclass
class Row:
    """Something whose value one writer at a time changes. `known` is the newest value that any answer has shown.

    `write(client, number)` sets the value to `number`; `paths` show it; `value(path, answer)` reads it from an answer;
    `uncached()` returns a path that shows it and was hardly ever requested before. `token` is the writer's, and
    `reader` the reader's if that is somebody else.
    """

    name: str
    paths: list[str]
    write: Callable[[Client, int], Awaitable[Answer]]
    value: Callable[[str, Answer], int]
    token: str
    uncached: Callable[[], str] | None = None
    reader: str = ""
    known: int = 0
    last: int = 0

    @property
    def reads_as(self) -> str:
        return self.reader or self.token


class Prover:
    """Runs on the web processes of `cluster` until `enough` reads have followed a write."""

    def __init__(self, cluster: Cluster, enough: int) -> None:
        self.cluster, self.enough, self.count = cluster, enough, Count()
        self.rows = _rows(cluster)
        self._numbers = itertools.count(1)

    async def run(self, injector: FaultInjector | None) -> Count:
        shares = [self.rows[i::WRITERS] for i in range(WRITERS)]
        tasks = [asyncio.create_task(self._writer(share)) for share in shares]
        tasks += [asyncio.create_task(self._reader()) for _ in range(READERS)]
        if injector:
            tasks.append(asyncio.create_task(injector.run()))
        try:
            while self.count.reads < self.enough:
                await asyncio.sleep(0.2)
                for task in tasks:
                    if task.done():
                        task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self.count

    async def _writer(self, rows: list[Row]) -> None:
        clients: dict[tuple[int, str], Client] = {}

        def client(port: int, token: str) -> Client:
            return clients.setdefault((port, token), Client(port, token, self.count.reopened))

        while self.count.reads < self.enough:
            began = time.monotonic()
            row = random.choice(rows)
            number = next(self._numbers)
            row.last = number
            ports = random.sample(self.cluster.ports, 3)
            writing = asyncio.ensure_future(self._try(row.write(client(ports[0], row.token), number)))
            while row.uncached and not writing.done():
                # This may see the commit before the write is answered; from then on the cache must not be behind it.
                await self._look(client(ports[1], row.reads_as), row, row.uncached())
                await self._look(client(ports[2], row.reads_as), row, row.paths[0])
            answer = await writing
            if answer is not None and answer.status < 300:
                row.known = max(row.known, number)
                self.count.writes += 1
                await asyncio.gather(*(self._follow(client(port, row.reads_as), row) for port in self.cluster.ports))
            await asyncio.sleep(max(0.0, 1 / WRITES_A_SECOND - (time.monotonic() - began)))

    async def _follow(self, client: Client, row: Row) -> None:
        for path in row.paths:
            hit = await self._look(client, row, path)
            if hit is not None:
                self.count.reads += 1
                self.count.hits += hit

    async def _reader(self) -> None:
        clients: dict[tuple[int, str], Client] = {}
        while self.count.reads < self.enough:
            row, port = random.choice(self.rows), random.choice(self.cluster.ports)
            token = row.reads_as
            client = clients.setdefault((port, token), Client(port, token, self.count.reopened))
            hit = await self._look(client, row, random.choice(row.paths))
            if hit is None:
                await asyncio.sleep(0.05)
            else:
                self.count.background += 1
                self.count.background_hits += hit

    async def _look(self, client: Client, row: Row, path: str) -> bool | None:
        """Read, and record whether the answer was stale. Returns: whether it was a cache hit; None if it failed."""
        before = row.known
        answer = await self._try(client.request("GET", path))
        if answer is None or answer.status != 200:
            self.count.failed[answer.status if answer else None] += 1
            return None
        value = row.value(path, answer)
        if value < before:
            self.count.stale.append(f"{row.name} {path}: {value}, but {before} was known before")
        if value <= row.last:
            row.known = max(row.known, value)
        return "desc=hit" in answer.headers.get("server-timing", "")

    @staticmethod
    async def _try(request: Awaitable[Answer]) -> Answer | None:
        try:
            return await asyncio.wait_for(request, 30)
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            return None


def _rows(cluster: Cluster) -> list[Row]:
    rows = []
    for store in cluster.stores:
        base = f"/v1/stores/{store.id}"
        rows += [_package(base, package, cluster.owner_token) for package in store.packages]
        rows.append(_staff(base, store.clerk_id, cluster.owner_token))
        rows.append(_payments(base, store.buyer_token))
        rows.append(_membership(base, store.subscription_id, store.member_token))
        rows.append(_customer(base, store.member_id, store.member_token))
    # The other users are renamed as authors of posts that their followers read.
    rows += [_profile(user_id, token) for user_id, token in cluster.users[::2]]
    for post in cluster.posts:
        rows += [_post(post), _comment(post)]
    return rows + [_author(post) for post in cluster.posts[1::2]]


def _package(base: str, package_id: str, token: str) -> Row:
    one = f"{base}/packages/{package_id}"

    def value(path: str, answer: Answer) -> int:
        document = answer.json()
        item = document if "data" not in document else next(i for i in document["data"] if i["id"] == package_id)
        return int(item["name"])

    def uncached() -> str:
        shown = ("id", "amount", "currency", "interval", "trial_days", "archived_at", "version", "created_at", "links")
        return f"{one}?fields=name,{','.join(random.sample(shown, len(shown)))}"

    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", one, {"name": str(number)})

    return Row("package", [one, f"{base}/packages?per_page=100"], write, value, token, uncached)


def _profile(user_id: str, token: str) -> Row:
    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", "/v1/me", {"name": str(number)})

    def value(path: str, answer: Answer) -> int:
        return int(answer.json()["name"])

    return Row("profile", ["/v1/me", f"/v1/users/{user_id}"], write, value, token)


_FEEDS = ("/v1/newsfeed?cursor=", "/v1/feed?")


def _of_post(post: ProverPost, answer: Answer) -> Any:
    document = answer.json()
    return document if "data" not in document else next(each for each in document["data"] if each["id"] == post.id)


def _post(post: ProverPost) -> Row:
    """A post as a follower of its author sees it: individually, and in lists of posts that others change too."""
    one = f"/v1/posts/{post.id}"

    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", one, {"body": str(number)})

    def uncached() -> str:
        shown = ("id", "title", "privacy", "likes_count", "comments_count", "liked_by_me", "version", "created_at")
        return f"/v1/newsfeed?fields=id,body,{','.join(random.sample(shown[1:], len(shown) - 1))}"

    def value(path: str, answer: Answer) -> int:
        return int(_of_post(post, answer)["body"])

    paths = [one, *_FEEDS, f"/v1/users/{post.author_id}/posts"]
    return Row("post", paths, write, value, post.token, uncached, post.reader_token)


def _comment(post: ProverPost) -> Row:
    one = f"/v1/posts/{post.id}/comments/{post.comment_id}"

    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", one, {"body": str(number)})

    def value(path: str, answer: Answer) -> int:
        found = answer.json() if path == one else _of_post(post, answer)["comments"][0]
        return int(found["body"])

    paths = [one, *(f"{path}&include=comments" for path in _FEEDS)]
    return Row("comment", paths, write, value, post.token, None, post.reader_token)


def _author(post: ProverPost) -> Row:
    """The name of a post's author, in the feeds of a follower."""

    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", "/v1/me", {"name": str(number)})

    def value(path: str, answer: Answer) -> int:
        return int(_of_post(post, answer)["author"]["name"])

    paths = [f"{path}&include=author" for path in _FEEDS]
    return Row("author", paths, write, value, post.token, None, post.reader_token)


def _staff(base: str, user_id: str, token: str) -> Row:
    """A staff role, by the row's version: the role itself has too few values to tell changes apart."""
    one = f"{base}/staff/{user_id}"
    versions = {"seen": 0}
    numbers: dict[int, int] = {}

    async def write(client: Client, number: int) -> Answer:
        answer = await client.request("PUT", one, {"role": ("support", "manager")[number % 2]})
        if answer.status < 300:
            versions["seen"] = answer.json()["version"]
            numbers[versions["seen"]] = number
        return answer

    def value(path: str, answer: Answer) -> int:
        version = answer.json()["version"]
        # If the version is unknown, it is newer than all known ones if it is higher.
        return numbers.get(version, 10**12 if version > versions["seen"] else 0)

    return Row("staff", [one], write, value, token)


def _payments(base: str, token: str) -> Row:
    path = f"{base}/payments?per_page=1&fields=description"

    async def write(client: Client, number: int) -> Answer:
        payment = {"amount": 100, "currency": "EUR", "description": str(number), "payment_method": "sandbox_ok"}
        return await client.request("POST", f"{base}/payments", payment, **{"Idempotency-Key": str(uuid4())})

    def value(path: str, answer: Answer) -> int:
        data = answer.json()["data"]
        return int(data[0]["description"]) if data else 0

    return Row("payments", [path], write, value, token)


def _membership(base: str, subscription_id: str, token: str) -> Row:
    """A membership, canceled again and again with a different reason each time, as its member and lists of members show
    it."""
    one = f"{base}/subscriptions/{subscription_id}"

    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", one, {"cancel_at_period_end": True, "reason": str(number)})

    def value(path: str, answer: Answer) -> int:
        document = answer.json()
        found = document["data"][0] if "data" in document else document
        return int(found["cancel_reason"] or 0)

    return Row("membership", [one, f"{base}/subscriptions", "/v1/me/subscriptions"], write, value, token)


def _customer(base: str, user_id: str, token: str) -> Row:
    async def write(client: Client, number: int) -> Answer:
        return await client.request("PATCH", "/v1/me", {"name": str(number)})

    def value(path: str, answer: Answer) -> int:
        document = answer.json()
        return int((document["data"][0] if "data" in document else document)["name"])

    return Row("customer", [f"{base}/customers/{user_id}", f"{base}/customers"], write, value, token)


def prove(
    enough: int, *, faults: bool = False, broken: bool = False, replicas: bool = False, failovers: bool = False
) -> Count:
    """Run until `enough` reads have followed a write. Returns: what was observed."""
    replicas = replicas or failovers
    target = "bench.broken_server:app" if broken else "server:app"
    with Cluster(target, replicas=replicas, fails_over=failovers) as cluster:
        injector = FaultInjector(cluster, faults=faults, failovers=failovers) if faults or failovers else None
        began = time.monotonic()
        count = asyncio.run(Prover(cluster, enough).run(injector))
        seconds = time.monotonic() - began
        count.by_replicas.update(cluster.counted("dues_replica_reads_total") if replicas else {})
    print(
        f"{count.reads:,} reads after {count.writes:,} acknowledged writes and {count.background:,} others"
        f" in {seconds:.0f} s: {count.share_of_hits():.0%} hits, {len(count.stale)} stale,"
        f" {count.failed.total():,} failed"
    )
    if count.by_replicas:
        print(
            f"  of {count.by_replicas.total():,} misses, replicas:",
            ", ".join(f"{n:,} {result}" for result, n in count.by_replicas.most_common()),
        )
    if count.failed:
        print(
            "  failed:", ", ".join(f"{n:,} {status or 'without an answer'}" for status, n in count.failed.most_common())
        )
    if count.reopened:
        print(
            f"  sent again on a new connection: {len(count.reopened):,}, after the old one had been idle for"
            f" {min(count.reopened):.0f} to {max(count.reopened):.0f} s"
        )
    for line in count.stale[:10]:
        print("  stale:", line)
    if injector:
        count.happened.update(injector.happened)
        print("  faults:", ", ".join(f"{n} {times}" for n, times in count.happened.items()))
    return count
