"""Clients that read lists and pay, one request at a time, while the system is busy with something else; and their
latencies."""

import itertools
import random
import threading
import time
from contextlib import closing
from math import ceil
from types import TracebackType

import psycopg2
import ujson
import urllib3

from bench.data import Data, store_ids
from bench.payments import BODY, payments_path
from dues.ids import new_id

# A confirmation that is not sent within this time counts as this long, so the figure is then a lower bound.
PATIENCE_S = 60.0
# Pauses between two reads, and between two payments, in seconds.
_READ_EVERY_S, _PAY_EVERY_S = 0.02, 0.5
_CONFIRMED = """
    select p.id::text, extract(epoch from j.finished_at)::float8
    from payments p join jobs j on j.id = p.confirmation_job_id
    where p.id = any(%s::uuid[]) and j.status = 'succeeded'
"""


class OtherClients:
    """Within a `with` block, one thread reads the newest payments of each store in turn, and another one pays."""

    def __init__(self, base: str, data: Data) -> None:
        self._base, self._data = base, data
        self._auth = {"Authorization": f"Bearer {data.token}", "Content-Type": "application/json"}
        self._over = threading.Event()
        self._reads: list[float] = []
        self._asked: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._threads = [threading.Thread(target=work) for work in (self._read, self._pay)]

    def __enter__(self) -> "OtherClients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        http, stores = urllib3.PoolManager(retries=False), itertools.cycle(store_ids())
        while not self._over.wait(_READ_EVERY_S):
            path = f"{payments_path(next(stores))}?per_page=20&include=user,package"
            started = time.perf_counter()
            answer = http.request("GET", self._base + path, headers=self._auth, timeout=PATIENCE_S)
            self._reads.append(time.perf_counter() - started)
            if answer.status != 200:
                raise RuntimeError(f"a list was answered {answer.status}")

    def _pay(self) -> None:
        http, stores = urllib3.PoolManager(retries=False), store_ids()
        while not self._over.wait(_PAY_EVERY_S):
            path = payments_path(random.choice(stores))
            at = time.time()
            headers = {**self._auth, "Idempotency-Key": new_id().hex}
            answer = http.request("POST", self._base + path, body=BODY, headers=headers, timeout=PATIENCE_S)
            if answer.status != 202:
                raise RuntimeError(f"a payment was answered {answer.status}")
            self._asked[ujson.loads(answer.data)["id"]] = at

    def settle(self) -> None:
        """Wait until all payments made in the block are confirmed; the workers must be running."""
        until = time.time() + PATIENCE_S
        with closing(psycopg2.connect(self._data.database_url.replace("+psycopg2", ""))) as connection:
            connection.autocommit = True
            while self._took.keys() != self._asked.keys() and time.time() < until:
                with connection.cursor() as cursor:
                    cursor.execute(_CONFIRMED, (list(self._asked),))
                    self._took = {name: finished - self._asked[name] for name, finished in cursor.fetchall()}
                time.sleep(0.2)

    @property
    def reads_ms(self) -> float:
        """The 99th percentile of reads, in milliseconds."""
        return _p99(self._reads) * 1000

    @property
    def confirmations_ms(self) -> float:
        """The 99th percentile from a payment's request to its confirmation, in milliseconds."""
        return _p99([self._took.get(name, PATIENCE_S) for name in self._asked]) * 1000


def _p99(found: list[float]) -> float:
    return sorted(found)[ceil(len(found) * 0.99) - 1]
