"""Tenants do not pay for each other: how long one store's background work takes alone, and behind another store's.

Store A keeps a queue full, store B asks for one thing at a time: a webhook while A has 20 receivers that never answer,
a report behind 300 of A's, a mail behind 300, and a job that does nothing behind 100,000 (20,000 with `--quick`).
Workers and relay run as `bin/run` starts them. Times are measured from the commit to the arrival at the receiver, or to
the job's end.

If B was not served within PATIENCE_S, that is its figure, which is then a lower bound, and the rest of B's samples are
left out.
"""

import selectors
import shutil
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import psycopg2
import ujson
from flask import Flask

from bench.data import Data, serving_new_data, store_ids
from bench.jobs_processes import PausableProcess, relay
from bench.jobs_worker import NOTHING
from bench.report import Suite
from bench.rounds import Figure, Goal
from bench.servers import HOME
from config import load_settings
from dues.clock import now
from dues.ids import new_id
from dues.jobs import enqueue
from dues.jobs.kinds import MAILING_SEND
from dues.mail.message import Message
from dues.mail.service import queue_mail
from dues.packages.service import NewPackage, create_package
from dues.postgres import transaction
from dues.reports import service
from dues.reports.service import NewReport, request_report
from local.mailsink import MailSink
from workers.app import create_worker_app

PATIENCE_S = 30.0
_ENDPOINTS, _REPORTS, _MAILS = 20, 300, 300
_MAIL_MS = 20
_WANTED = 2.0

_ENDPOINT = """
    with stream as (
        insert into event_streams(store_id, listened) values (%(store)s, true)
        on conflict (store_id) do update set listened = true)
    insert into webhook_endpoints(store_id, id, url, events, secret)
    values (%(store)s, %(id)s, %(url)s, '{*}', 'whsec_' || encode(sha256(%(url)s::bytea), 'base64'))
"""
_NOTHING = """
    insert into jobs(id, kind, queue, store_id) select gen_random_uuid(), 'bench.nothing', 'default', %(store)s
    from generate_series(1, %(count)s)
"""
_LEFT = "select count(*) from jobs where queue = %(queue)s and store_id = %(store)s and status = 'queued'"
_TOOK = "select extract(epoch from finished_at - created_at) from jobs where id = %(id)s and status = 'succeeded'"
_CLEAR = "delete from jobs; delete from email_sends; delete from webhook_deliveries; delete from circuit_breakers"


@dataclass
class Tenants:
    """Two stores, and the connections and app to work with them."""

    app: Flask
    sql: psycopg2.extensions.connection
    a: UUID
    b: UUID
    owner: UUID

    def run(self, sql: str, **values: object) -> object:
        """Run a statement. Returns: the first value of its result, if any."""
        with self.sql.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def ask(self, what: Callable[[UUID], UUID], store: UUID, count: int = 1) -> UUID:
        """Request something `count` times for a store, in one transaction. Returns: the last one's id."""
        with self.app.app_context(), transaction():
            return [what(store) for _ in range(count)][-1]

    def settle(self) -> None:
        """Remove all work that is left from earlier measurements."""
        self.run("update jobs set status = 'canceled', finished_at = now() where status = 'queued'")
        _wait(lambda: not self.run("select count(*) from jobs where status = 'running'"), PATIENCE_S)
        self.run(_CLEAR)


def _wait(condition: Callable[[], object], patience_s: float, every_s: float = 0.002) -> bool:
    """Wait until `condition` holds. Returns: whether it did within `patience_s` seconds."""
    until = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(every_s)
    return True


class Receiver:
    """Accepts webhooks at once, and records when each arrived."""

    def __init__(self) -> None:
        self.came: list[float] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.came.append(time.monotonic())
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class TarPits:
    """Receivers, each on its own port, that accept connections and never answer."""

    def __init__(self, count: int) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(count)]
        self.urls = [f"http://127.0.0.1:{each.getsockname()[1]}/" for each in self._listeners]
        self._held: list[socket.socket] = []
        self._over = False
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        selector = selectors.DefaultSelector()
        for listener in self._listeners:
            selector.register(listener, selectors.EVENT_READ)
        while not self._over:
            for key, _ in selector.select(0.2):
                assert isinstance(key.fileobj, socket.socket)
                self._held.append(key.fileobj.accept()[0])

    def close(self) -> None:
        self._over = True
        self._thread.join()
        for each in (*self._held, *self._listeners):
            each.close()


def _package(store: UUID) -> UUID:
    return create_package(store, NewPackage(name="Gold", amount=100, interval="month"))


def _webhooks(tenants: Tenants, samples: int) -> tuple[list[float], list[float]]:
    with closing(Receiver()) as receiver, closing(TarPits(_ENDPOINTS)) as pits:
        tenants.run(_ENDPOINT, store=tenants.b, id=str(new_id()), url=receiver.url)
        for url in pits.urls:
            tenants.run(_ENDPOINT, store=tenants.a, id=str(new_id()), url=url)

        def once() -> float:
            count, began = len(receiver.came), time.monotonic()
            tenants.ask(_package, tenants.b)
            return receiver.came[-1] - began if _wait(lambda: len(receiver.came) > count, PATIENCE_S) else PATIENCE_S

        alone = _series(once, samples)
        for _ in range(10):
            tenants.ask(_package, tenants.a)
        time.sleep(2)
        behind = _series(once, samples, lambda: tenants.ask(_package, tenants.a))
        tenants.run("update webhook_endpoints set enabled = false")
        tenants.run("update event_streams set listened = false")
    return alone, behind


def _report(tenants: Tenants) -> Callable[[UUID], UUID]:
    day = now()
    # The API limits the unfinished reports of a store; this benchmark needs a full queue.
    service.MOST_UNFINISHED = 1_000_000

    def ask(store: UUID) -> UUID:
        report = request_report(store, tenants.owner, NewReport("payments", "csv", day.replace(year=2020), day))
        assert report.job_id
        return report.job_id

    return ask


def _mail(store: UUID) -> UUID:
    email_id = queue_mail(f"bench:{new_id()}", "somebody@example.com", Message(subject="s", text="t", html="<p>t"))
    return enqueue(MAILING_SEND, {"email_id": str(email_id)}, store_id=store)


def _through_jobs(
    tenants: Tenants, samples: int, queue: str, ask: Callable[[UUID], UUID], fill: Callable[[int], object], least: int
) -> tuple[list[float], list[float]]:
    """B's jobs one at a time: first alone, then while at least `least` of A's jobs wait."""

    def once() -> float:
        job_id = tenants.ask(ask, tenants.b)
        took: list[object] = []

        def is_done() -> bool:
            took[:] = [tenants.run(_TOOK, id=str(job_id))]
            return took[0] is not None

        return float(str(took[0])) if _wait(is_done, PATIENCE_S) else PATIENCE_S

    def top_up() -> None:
        left = int(str(tenants.run(_LEFT, queue=queue, store=str(tenants.a))))
        if left < least:
            fill(2 * least - left)

    alone = _series(once, samples)
    top_up()
    behind = _series(once, samples, top_up)
    tenants.settle()
    return alone, behind


def _series(once: Callable[[], float], samples: int, before: Callable[[], object] = lambda: None) -> list[float]:
    once()
    found: list[float] = []
    while len(found) < samples and (not found or found[-1] < PATIENCE_S):
        before()
        found.append(once())
        # Uneven pauses, to avoid being in step with anything periodic.
        time.sleep(0.03 + 0.02 * (len(found) % 3))
    return found


def _p99(values: list[float]) -> float:
    return sorted(values)[max(-(-len(values) * 99 // 100) - 1, 0)]


@contextmanager
def _serving_tenants(data: Data) -> Iterator[Tenants]:
    home = HOME / "fairness"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    sink = MailSink(home, faults=True)
    sink.start()
    environ = {**data.environ(), "SMTP_URL": sink.smtp_url, "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1", "LOG_LEVEL": "error"}
    processes = [PausableProcess("fairness-workers", [sys.executable, "-m", "bench.jobs_worker"], environ), relay(data)]
    connection = psycopg2.connect(data.database_url.replace("+psycopg2", ""))
    connection.autocommit = True
    try:
        for process in processes:
            process.start()
        _slow_down(sink)
        app = create_worker_app(load_settings(environ))
        a, b = (UUID(store) for store in store_ids(2))
        tenants = Tenants(app, connection, a, b, UUID(int=0))
        owner = tenants.run("select owner_id::text from stores where id = %(id)s", id=str(a))
        tenants.owner = UUID(str(owner))
        yield tenants
    finally:
        for process in processes:
            process.stop()
        connection.close()
        sink.stop()


def _slow_down(sink: MailSink) -> None:
    order = ujson.dumps({"delay_ms": _MAIL_MS}).encode()
    urllib.request.urlopen(sink.request("/behave", order), timeout=5).close()


def run(rounds: int, samples: int, batch: int) -> Suite:
    """Take `samples` of B's work of each kind per round; `batch` is how many no-op jobs A has in front."""
    suite = Suite(
        "Fair turns",
        f"Store B alone, and behind store A: with A's {_ENDPOINTS} webhook receivers that never answer, {_REPORTS} of"
        f" its reports, {_MAILS} of its mails ({_MAIL_MS} ms each) and {batch:,} of its jobs that do nothing."
        f" Workers as by default; p99 of {samples} turns a round.",
    )
    found: dict[str, list[tuple[float, float]]] = {}
    with serving_new_data(30_000) as data, _serving_tenants(data) as tenants:
        kinds: dict[str, Callable[[], tuple[list[float], list[float]]]] = {
            "a webhook": lambda: _webhooks(tenants, samples),
            "a report": lambda: _through_jobs(
                tenants,
                samples,
                "slow",
                _report(tenants),
                lambda count: tenants.ask(_report(tenants), tenants.a, count),
                _REPORTS,
            ),
            "a mail": lambda: _through_jobs(
                tenants, samples, "default", _mail, lambda count: tenants.ask(_mail, tenants.a, count), _MAILS
            ),
            "a job": lambda: _through_jobs(
                tenants,
                samples,
                "default",
                lambda store: enqueue(NOTHING, {}, store_id=store),
                lambda count: tenants.run(_NOTHING, store=str(tenants.a), count=count),
                batch,
            ),
        }
        for _ in range(rounds):
            for name, measure in kinds.items():
                tenants.settle()
                alone, behind = measure()
                found.setdefault(name, []).append((_p99(alone), _p99(behind)))
                print(f"  {name}: alone {_p99(alone) * 1000:.0f} ms, behind {_p99(behind) * 1000:.0f} ms", flush=True)
        suite.machine(data)
    figures = {}
    for name, pairs in found.items():
        for which, values in zip(("alone", "behind A"), zip(*pairs, strict=True), strict=True):
            figures[f"{name}, {which}"] = Figure(f"{name}, {which}", "ms", tuple(value * 1000 for value in values))
    suite.table("p99 from B's commit to its end", figures)
    for name in found:
        ratio = figures[f"{name}, behind A"].median / figures[f"{name}, alone"].median
        suite.goal(Goal(f"{name}, behind A / alone", ratio, _WANTED, at_most=True))
    return suite
