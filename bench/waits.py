"""Clients that wait on status URLs: what each one costs, and how soon it learns of a change.

Every client long-polls a different job, and asks again when it is answered. Latencies are measured from the commit of
the change to the answer in the client, whose own work is included.
"""

import asyncio
import contextlib
import http.client
import resource
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from uuid import UUID

import psutil
import psycopg2
import uvloop

from bench.data import Data, serving_data
from bench.machine import LOAD_CORE, on_core
from bench.report import Suite
from bench.rounds import Figure, Goal
from bench.servers import serving
from dues.accounts.tokens import hash_token
from dues.ids import new_id
from dues.jobs.notifications import Waker

_WAIT_S = 25
_TOKENS = 1000
_MORE_TOKENS = """
    insert into api_tokens(id, user_id, name, token_hash, scopes, expires_at)
    select gen_random_uuid(), user_id, name, unnest(%s::bytea[]), scopes, expires_at from api_tokens
    where token_hash = %s on conflict do nothing
"""
_JOBS = """
    insert into jobs(id, kind, queue, owner_id, run_at, progress)
    select unnest(%s::uuid[]), 'report.build', 'slow', (select user_id from api_tokens where token_hash = %s),
        'infinity', '{"completed":1,"total":9,"unit":"rows","eta":null}'
"""


class Client(asyncio.Protocol):
    """One client, on one connection."""

    def __init__(self, job_id: UUID, token: str, answered: Callable[["Client"], None]) -> None:
        self.job_id, self.version = job_id, 1
        self._token, self._answered = token, answered
        self.refusals = 0
        self._data = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._ask()

    def _ask(self) -> None:
        head = (
            f"GET /v1/jobs/{self.job_id} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._token}\r\n"
            f'If-None-Match: "{self.version}"\r\nPrefer: wait={_WAIT_S}\r\n\r\n'
        )
        assert self._transport
        self._transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields.get(b"content-length", b"0")):
            return
        self._data = b""
        status = int(head[9:12])
        if status == 200:
            self.version = int(fields[b"etag"].strip(b'"'))
            self._answered(self)
        elif status == 503:
            self.refusals += 1
            asyncio.get_running_loop().call_later(int(fields[b"retry-after"]), self._ask)
            return
        elif status != 304:
            raise RuntimeError(f"a client was answered {head!r}")
        self._ask()


@dataclass
class Latencies:
    """Percentiles, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: list[float]) -> "Latencies":
        cuts = quantiles(seconds, n=100)
        return cls(cuts[49] * 1000, cuts[98] * 1000)


class WaitingClients:
    """All the clients, and the connection that changes their jobs."""

    def __init__(self, data: Data, base: str, count: int) -> None:
        self._data, self._base, self._count = data, base, count
        self._connection = psycopg2.connect(data.database_url.replace("postgresql+psycopg2", "postgresql"))
        self._connection.autocommit = True
        self._tokens = [f"dues_bench{number}" for number in range(_TOKENS)]
        self._waker = Waker(data.redis_url)
        self.jobs = [new_id() for _ in range(count)]
        self._clients: list[Client] = []
        self._changed_at: dict[UUID, float] = {}
        self.seconds: list[float] = []

    def _execute(self, sql: str, *values: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)

    async def connect(self) -> None:
        """Have all clients connect and wait."""
        self._execute(_MORE_TOKENS, [hash_token(token) for token in self._tokens], hash_token(self._data.token))
        self._execute("delete from jobs")
        self._execute(_JOBS, [str(job_id) for job_id in self.jobs], hash_token(self._data.token))
        self._execute("analyze jobs")
        loop = asyncio.get_running_loop()
        port = int(self._base.rpartition(":")[2])
        for start in range(0, self._count, 100):
            batch = [
                Client(job_id, self._tokens[number % _TOKENS], self._on_answer)
                for number, job_id in enumerate(self.jobs[start : start + 100], start)
            ]
            await asyncio.gather(
                *(loop.create_connection(lambda client=client: client, "127.0.0.1", port) for client in batch)  # type: ignore[misc]
            )
            self._clients += batch
            await self._until_waiting(len(self._clients) - 200)
        await self._until_waiting(self._count * 0.995)

    async def _until_waiting(self, count: float) -> None:
        """Return when the server has that many waiting clients."""
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, waiting, self._base) < count:
            await asyncio.sleep(0.2)

    @property
    def refusals(self) -> int:
        return sum(client.refusals for client in self._clients)

    def _on_answer(self, client: Client) -> None:
        if changed_at := self._changed_at.pop(client.job_id, None):
            self.seconds.append(time.perf_counter() - changed_at)

    def change(self, jobs: list[UUID]) -> None:
        self._execute("update jobs set version = version + 1 where id = any(%s::uuid[])", [str(j) for j in jobs])
        now = time.perf_counter()
        self._changed_at |= dict.fromkeys(jobs, now)
        for job_id in jobs:
            self._waker.tell(job_id, 0)

    async def one_by_one(self, rate: int, seconds: float) -> Latencies:
        """Change `rate` jobs per second, each in its own transaction."""
        self.seconds.clear()
        began = time.perf_counter()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(began + number / rate - time.perf_counter(), 0))
            self.change([self.jobs[number * 7 % self._count]])
        await self._all_answered()
        return Latencies.of(self.seconds)

    async def at_once(self) -> Latencies:
        """Change all jobs in one transaction."""
        await self._until_waiting(self._count * 0.995)
        self.seconds.clear()
        self.change(self.jobs)
        await self._all_answered()
        return Latencies.of(self.seconds)

    async def _all_answered(self) -> None:
        deadline = time.perf_counter() + 20
        while self._changed_at:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"{len(self._changed_at)} clients heard nothing")
            await asyncio.sleep(0.05)


def waiting(base: str) -> int:
    """How many clients are waiting at the server, by its metrics."""
    # The server refuses requests while it is overloaded.
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{base}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("dues_waiting_clients"):
                return int(float(line.split()[-1]))
    return 0


def web_process(base: str) -> psutil.Process:
    port = base.rpartition(":")[2]
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PORT") == port and not process.children():
                return process
    raise RuntimeError("there is no web process")


def memory(web: psutil.Process) -> int:
    """The memory that only the web process uses, in bytes."""
    return int(web.memory_full_info().uss)


def processor_s(web: psutil.Process) -> float:
    """The processor time that the web process has used, in seconds."""
    times = web.cpu_times()
    return float(times.user + times.system)


async def read_meanwhile(base: str, token: str, until: asyncio.Event) -> list[float]:
    """Make an ordinary read every 20 ms. Returns: the seconds that each took. Raises: RuntimeError if one failed."""
    taken = []
    loop = asyncio.get_running_loop()
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=30)

    def read() -> float:
        began = time.perf_counter()
        connection.request("GET", "/v1/me/payments?cursor=&limit=20", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"an ordinary read was answered {answer.status}")
        return time.perf_counter() - began

    while not until.is_set():
        taken.append(await loop.run_in_executor(None, read))
        await asyncio.sleep(0.02)
    connection.close()
    return taken


def run(rounds: int, seconds: float, count: int = 10_000) -> Suite:
    suite = Suite("Waiting clients", f"{count:,} clients, each waiting on a job of its own, at one web process.")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(100_000))
        argv = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "server:app"]
        base = stack.enter_context(serving("dues", argv, {**data.environ(), "PORT": "{port}"}, "/healthz"))
        with on_core(LOAD_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_measure(suite, data, base, rounds, seconds, count))
        suite.machine(data)
    return suite


async def _measure(suite: Suite, data: Data, base: str, rounds: int, seconds: float, count: int) -> None:
    web = web_process(base)
    reads = asyncio.Event()
    reading = asyncio.create_task(read_meanwhile(base, data.token, reads))
    await asyncio.sleep(2)
    reads.set()
    before = Latencies.of(await reading)
    clients, bytes_before = WaitingClients(data, base, count), memory(web)
    began, cpu = time.perf_counter(), processor_s(web)
    await clients.connect()
    arrived_s = time.perf_counter() - began
    each = (memory(web) - bytes_before) / count / 1000
    arrived_cpu = processor_s(web) - cpu
    reads.clear()
    reading = asyncio.create_task(read_meanwhile(base, data.token, reads))
    paced = [await clients.one_by_one(100, max(seconds, 5)) for _ in range(rounds)]
    reads.set()
    during = Latencies.of(await reading)
    cpu = processor_s(web)
    at_once = [await clients.at_once() for _ in range(rounds)]
    woken_cpu = (processor_s(web) - cpu) / rounds
    peak = (memory(web) - bytes_before) / count / 1000
    figure = Figure
    suite.table(
        "Memory for each client",
        {"waiting": figure("waiting", "kB", (each,)), "after all": figure("after all were woken", "kB", (peak,))},
    )
    suite.table("Arrival of all", {"a": figure("all clients wait", "s", (arrived_s,))})
    suite.table(
        "Processor time of the server for each client",
        {
            "came": figure("to arrive", "ms", (arrived_cpu / count * 1000,)),
            "woken": figure("to be woken and come back", "ms", (woken_cpu / count * 1000,)),
        },
    )
    suite.table(
        "From commit to client",
        {
            "p50": figure("100 a second, p50", "ms", tuple(found.p50 for found in paced)),
            "p99": figure("100 a second, p99", "ms", tuple(found.p99 for found in paced)),
            "all p50": figure("all at once, p50", "ms", tuple(found.p50 for found in at_once)),
            "all p99": figure("all at once, p99", "ms", tuple(found.p99 for found in at_once)),
        },
    )
    suite.table(
        "An ordinary list meanwhile",
        {
            "before": figure("nobody waits, p99", "ms", (before.p99,)),
            "during": figure("all wait, 100 a second woken, p99", "ms", (during.p99,)),
        },
    )
    suite.table("Clients that were told to come back later", {"r": figure("503", "times", (clients.refusals,))})
    worst_paced, worst_at_once = max(f.p99 for f in paced), max(f.p99 for f in at_once)
    suite.goal(Goal("kB for each waiting client / 40", each / 40, 1, at_most=True))
    suite.goal(Goal("100 a second, p99 / 250 ms", worst_paced / 250, 1, at_most=True))
    suite.goal(Goal("all at once, p99 / 2 s", worst_at_once / 2000, 1, at_most=True))


if __name__ == "__main__":
    print(run(2, 5).markdown())
