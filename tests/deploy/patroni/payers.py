"""Clients that pay and look at what they paid, while PostgreSQL changes hands: what each was told, and when."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from dues.ids import new_id
from tests.factory import Factory
from tests.webserver import WebServer

# Longer than any request may take: statements end after 15 s.
_PATIENCE_S = 60


@dataclass
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes


@dataclass
class Told:
    """What clients were told. `acknowledged`: keys of payments to their ids, and `moments`, when each was. `stale`:
    pages that lacked a payment which had been acknowledged before they were asked for. `faults`: answers that break the
    contract. `refused`: what 503 said."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    moments: list[float] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    looks: int = 0
    hits: list[float] = field(default_factory=list)
    slowest_s: float = 0.0

    def longest_gap_s(self, since: float) -> float:
        """The longest time since then in which no client got a payment acknowledged."""
        moments = sorted([since, *(moment for moment in self.moments if moment >= since), time.monotonic()])
        return max(later - earlier for earlier, later in pairwise(moments))


class Payer(threading.Thread):
    """One client with a store of its own, in which nobody else pays."""

    def __init__(self, webs: Sequence[WebServer], make: Factory, told: Told, ends: threading.Event) -> None:
        super().__init__(daemon=True)
        self._told, self._ends = told, ends
        owner = make.user()
        self._auth = make.auth(owner)
        self._path = f"/v1/stores/{make.store(owner).id}/payments"
        self._connections = [http.client.HTTPConnection("127.0.0.1", web.port, timeout=_PATIENCE_S) for web in webs]
        self._ids: list[str] = []

    def run(self) -> None:
        turn = 0
        while not self._ends.is_set():
            turn += 1
            if self._pay(turn):
                # At the other one; the second time from the cache, where that is on.
                self._look(turn + 1)
                self._look(turn + 1)
                # All is to be charged in the end, by workers that are few.
                self._ends.wait(0.2)
        for connection in self._connections:
            connection.close()

    def _pay(self, web: int) -> bool:
        """Send a payment, again with its key at one web server after the other, until it is acknowledged."""
        key = new_id().hex
        body = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}
        while answer := self._ask(web, "POST", self._path, {"Idempotency-Key": key}, body):
            web += 1
            if answer.status == 202:
                self._ids.append(json.loads(answer.body)["id"])
                self._told.acknowledged[key] = self._ids[-1]
                self._told.moments.append(time.monotonic())
                return True
            # The last try is still being carried out.
            if answer.status != 503 and not (answer.status == 409 and b"idempotency_key_in_use" in answer.body):
                self._told.faults.append(f"POST {answer.status} {answer.body[:300]!r}")
        return False

    def _look(self, web: int) -> None:
        while answer := self._ask(web, "GET", f"{self._path}?per_page=3&sort=-id"):
            if answer.status == 503:
                continue
            if answer.status != 200:
                self._told.faults.append(f"GET {answer.status} {answer.body[:300]!r}")
                return
            self._told.looks += 1
            if "cache;desc=hit" in answer.fields.get("server-timing", ""):
                self._told.hits.append(time.monotonic())
            shown = [row["id"] for row in json.loads(answer.body)["data"]]
            if shown != self._ids[:-4:-1]:
                self._told.stale.append(f"{shown} instead of {self._ids[:-4:-1]}")
            return

    def _ask(
        self, web: int, method: str, path: str, fields: dict[str, str] | None = None, body: object = None
    ) -> Answer | None:
        """An answer; None once the test is over. What is refused is asked for again soon, not after `Retry-After`, so
        that outages are told as they are."""
        if self._ends.is_set():
            return None
        connection = self._connections[web % len(self._connections)]
        headers = self._auth | (fields or {}) | ({"Content-Type": "application/json"} if body else {})
        began = time.monotonic()
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            found = connection.getresponse()
            answer = Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            answer = Answer(0, {}, repr(error).encode())
        self._told.slowest_s = max(self._told.slowest_s, time.monotonic() - began)
        if answer.status == 503:
            if "retry-after" not in answer.fields:
                self._told.faults.append(f"{method} 503 without Retry-After {answer.body[:300]!r}")
            self._told.refused[json.loads(answer.body).get("detail", "")] += 1
            self._ends.wait(0.1)
        return answer


class Probe(threading.Thread):
    """Asks /readyz four times a second. `said`: when, and whether ready."""

    def __init__(self, web: WebServer, ends: threading.Event) -> None:
        super().__init__(daemon=True)
        self._url, self._ends = f"{web.url}/readyz", ends
        self.said: list[tuple[float, bool]] = []

    def run(self) -> None:
        while not self._ends.wait(0.25):
            moment = time.monotonic()
            try:
                with urllib.request.urlopen(self._url, timeout=20) as answer:
                    is_ready = answer.status == 200
            except urllib.error.HTTPError:
                is_ready = False
            self.said.append((moment, is_ready))


@dataclass
class Traffic:
    told: Told
    probe: Probe


@contextmanager
def paying(webs: Sequence[WebServer], make: Factory, count: int = 4) -> Iterator[Traffic]:
    """While the block runs, clients pay and look."""
    told, ends = Told(), threading.Event()
    probe = Probe(webs[0], ends)
    threads = [probe, *(Payer(webs, make, told, ends) for _ in range(count))]
    for thread in threads:
        thread.start()
    try:
        yield Traffic(told, probe)
    finally:
        ends.set()
        for thread in threads:
            thread.join(2 * _PATIENCE_S)
