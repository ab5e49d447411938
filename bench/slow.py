"""How long others wait while thousands of clients send one byte per second, and hundreds download a large file slowly.

With a thread for each of them, none would be left for others; here each of them only takes a socket.
"""

import asyncio
import contextlib
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from pathlib import Path

import psycopg2

from bench.contest import Contest
from bench.data import Data, serving_data, store_ids
from bench.report import Suite
from bench.rounds import Goal, interleave
from dues.ids import new_id

SENDERS, RECEIVERS = 5_000, 200
_FILE_BYTES = 50_000_000
# How many bytes a slow receiver reads per second.
_READ_BYTES = 4_000
# Time for the work when the clients come and go: the kernel buffers megabytes at the beginning of each download.
_SETTLE_S = 3
_REPORT = """
    insert into reports(store_id, id, requested_by, kind, format, range_from, range_to, status, file_key, rows, bytes,
        sha256)
    values (%s, %s, md5('user1')::uuid, 'payments', 'csv', %s, %s, 'succeeded', %s, 0, %s, '')
"""


def run(rounds: int, seconds: float, payments: int) -> Suite:
    suite = Suite(
        "Slow clients", f"Beside {SENDERS:,} who send a byte a second, or {RECEIVERS} who take a report slowly."
    )
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(payments))
        measure(suite, Contest(data, stack, store_ids()), rounds, seconds)
        suite.machine(data)
    return suite


def measure(suite: Suite, contest: Contest, rounds: int, seconds: float) -> None:
    path = _report(contest.data, contest.stores[0])
    contest.warm()

    def alone() -> float:
        return contest.load(contest.dues, contest.pages(), seconds).p99 * 1000

    def with_clients(clients: Callable[[], contextlib.AbstractContextManager[None]]) -> Callable[[], float]:
        def once() -> float:
            with clients():
                time.sleep(_SETTLE_S)
                found = alone()
            time.sleep(_SETTLE_S)
            return found

        return once

    port = int(contest.dues.rpartition(":")[2])
    token = contest.auth["Authorization"]
    figures = interleave(
        rounds,
        {
            "alone": alone,
            f"beside {SENDERS:,} slow senders": with_clients(
                lambda: _slow_clients(SENDERS, lambda: _send(port, token))
            ),
            f"beside {RECEIVERS} slow receivers": with_clients(
                lambda: _slow_clients(RECEIVERS, lambda: _receive(port, token, path))
            ),
        },
        "ms",
        warm_up=False,
    )
    suite.table("p99 of hits beside slow clients", figures)
    first, *others = figures.values()
    for figure in others:
        suite.goal(Goal(f"p99 of hits {figure.name} / alone", figure.median / first.median, 2, at_most=True))


def _report(data: Data, store: str) -> str:
    """Create a finished report of 50 MB. Returns: the path of its file."""
    report_id = str(new_id())
    key = f"reports/{report_id}/1"
    file = Path(data.environ()["DUES_HOME"], "files", key)
    file.parent.mkdir(parents=True)
    file.write_bytes(os.urandom(_FILE_BYTES // 100) * 100)
    with (
        contextlib.closing(psycopg2.connect(data.database_url)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        values = (store, report_id, date(2026, 1, 1), date(2026, 2, 1), key, _FILE_BYTES)
        cursor.execute(_REPORT, values)
    return f"/v1/stores/{store}/reports/{report_id}/file"


@contextlib.contextmanager
def _slow_clients(count: int, client: Callable[[], AsyncIterator[None]]) -> Iterator[None]:
    """Run `count` clients on an event loop in a separate thread."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop, ready = asyncio.new_event_loop(), threading.Event()

    connecting, connected = asyncio.Semaphore(100), 0

    async def run_client() -> None:
        nonlocal connected
        steps = client()
        async with connecting:
            await anext(steps)
        connected += 1
        if connected == count:
            ready.set()
        async for _ in steps:
            await asyncio.sleep(1)

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(run_client())

    task = loop.create_task(run())

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_asyncgens())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        if not ready.wait(60):
            raise RuntimeError("the slow clients did not get in")
        yield
        if task.done():
            raise RuntimeError("the slow clients did not stay")
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


async def _send(port: int, token: str) -> AsyncIterator[None]:
    """A POST whose body is sent one byte at a time."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/users HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 500\r\n\r\n".encode())
    try:
        while True:
            await writer.drain()
            yield
            writer.write(b" ")
    finally:
        writer.close()


async def _receive(port: int, token: str, path: str) -> AsyncIterator[None]:
    """A download that is read slowly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_READ_BYTES)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {token}\r\n\r\n".encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the report is not to be had: {head.decode()}")
        while True:
            yield
            await reader.readexactly(_READ_BYTES)
    finally:
        writer.close()
