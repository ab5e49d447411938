"""Mails: confirmations of payments from the committed rows to the mail server, and the gain from more workers.

All contestants send to the mail sink of `bin/run`, which stores each mail in a file named after its time of arrival.
"""

import contextlib
import itertools
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import ujson
from redis import Redis
from rq import Queue

from bench.data import Data
from bench.jobs_processes import Backlog, PausableProcess, relay, resumed, started_paused, wait_until
from bench.peers.jobs_rq_mails import composed
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import HOME
from config import load_settings
from dues.jobs.kinds import PAYMENT_CONFIRMATION
from local.mailsink import MailSink
from workers.app import create_worker_app
from workers.rq_worker import _LOOK_S

Payment = tuple[str, str]

_RQ = "bench.peers.jobs_rq_mails."
_DELAY_MS = 50
_PAYMENTS = "select store_id::text, id::text from payments order by created_at, id"
_SENT = "select count(*) from email_sends where state = 'sent'"


class Mails:
    """The mail sink, and the payments that can be confirmed, each only once."""

    def __init__(self, data: Data, sink: MailSink, backlog: Backlog) -> None:
        self.backlog, self._sink = backlog, sink
        self.environ = {**data.environ(), "SMTP_URL": sink.smtp_url}
        self._payments: Iterator[Payment] = iter(backlog.rows(_PAYMENTS))  # type: ignore[arg-type]

    def take(self, count: int) -> list[Payment]:
        taken = list(itertools.islice(self._payments, count))
        if len(taken) < count:
            raise RuntimeError("there are not enough payments")
        return taken

    def slow_down(self) -> None:
        """Have each mail take 50 ms from now on."""
        order = ujson.dumps({"delay_ms": _DELAY_MS}).encode()
        urllib.request.urlopen(self._sink.request("/behave", order), timeout=5).close()

    def rate(self, count: int, begin: Callable[[], float]) -> float:
        """Mails per second, from the moment that `begin` returns until the last of `count` mails. Raises: RuntimeError
        if more mails arrive."""
        for old in self._sink.folder.glob("*.eml"):
            old.unlink()
        began = begin()
        wait_until(lambda: len(self._names()) >= count, f"{count} mails")
        names = self._names()
        if len(names) != count:
            raise RuntimeError(f"{len(names)} mails came, not {count}")
        return count / (_moment(max(names)) - began)

    def _names(self) -> list[str]:
        return [file.name for file in self._sink.folder.glob("*.eml")]


def _moment(name: str) -> float:
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).timestamp()


@contextlib.contextmanager
def mails(data: Data) -> Iterator[Mails]:
    home = HOME / "mails"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    sink = MailSink(home, faults=True)
    sink.start()
    try:
        with contextlib.closing(Backlog(data)) as backlog:
            yield Mails(data, sink, backlog)
    finally:
        sink.stop()
        shutil.rmtree(home)


class DuesWorkers:
    """Workers of Dues and a relay, with the complete path: job row, relay, RQ, claim, ledger, SMTP, `sent`."""

    def __init__(self, mails: Mails, relay_process: PausableProcess, workers: int) -> None:
        self._mails, self._workers = mails, workers
        argv = [sys.executable, "-m", "workers.supervisor"]
        self.process = PausableProcess(
            f"workers-{workers}", argv, {**mails.environ, "WORKER_QUEUES": f"default:{workers}"}
        )
        self._processes = (self.process, relay_process)

    def rate(self, count: int) -> float:
        with resumed(*self._processes):
            # Now connections are open, and each worker has just polled for jobs that no relay delivers.
            self._commit(3 * self._workers)
            rate = self._commit(count)
        # A worker that is stopped while it waits at its queue would be given jobs meant for the next contestant.
        time.sleep(_LOOK_S * 1.2)
        return rate

    def _commit(self, count: int) -> float:
        backlog = self._mails.backlog
        before = backlog.rows(_SENT)[0][0]
        payments = self._mails.take(count)
        backlog.add(PAYMENT_CONFIRMATION, [{"store_id": store, "payment_id": payment} for store, payment in payments])
        rate = self._mails.rate(count, backlog.commit)
        wait_until(lambda: backlog.rows(_SENT)[0][0] == before + count, "the ledger to say that all are sent")  # type: ignore[operator]
        return rate


class RQWorker:
    """RQ's SimpleWorker, which sends the same mails with smtplib and records nothing."""

    def __init__(
        self, mails: Mails, data: Data, name: str, call: str, prepare: Callable[[Payment], tuple[object, ...]]
    ) -> None:
        self._mails, self._call, self._prepare = mails, call, prepare
        self._queue = Queue(name, connection=Redis.from_url(data.redis_url))
        argv = [sys.executable, "-m", "rq.cli", "worker", "-u", data.redis_url, "-w", "rq.SimpleWorker", "-q", name]
        self.process = PausableProcess(name, argv, mails.environ)
        self._is_warm = False

    def rate(self, count: int) -> float:
        if not self._is_warm:
            self._send(3)
            self._is_warm = True
        return self._send(count)

    def _send(self, count: int) -> float:
        calls = [self._prepare(payment) for payment in self._mails.take(count)]
        self._queue.enqueue_many([Queue.prepare_data(_RQ + self._call, call) for call in calls])
        with contextlib.ExitStack() as turn:

            def begin() -> float:
                began = time.time()
                turn.enter_context(resumed(self.process))
                return began

            return self._mails.rate(count, begin)


def confirmations(
    suite: Suite, data: Data, mails: Mails, relay_process: PausableProcess, rounds: int, count: int
) -> None:
    """One worker of Dues against one of RQ."""
    dues = DuesWorkers(mails, relay_process, 1)
    writing = RQWorker(mails, data, "bench-writing", "confirm", lambda payment: payment)
    app = create_worker_app(load_settings(mails.environ))
    sending = RQWorker(mails, data, "bench-sending", "send", lambda payment: composed(app, *payment))
    with started_paused(dues.process, relay_process, writing.process, sending.process):
        figures = interleave(
            rounds,
            {
                "Dues": lambda: dues.rate(count),
                "RQ SimpleWorker": lambda: writing.rate(count),
                "RQ SimpleWorker, mails written before": lambda: sending.rate(count),
            },
            "mails/s",
            warm_up=False,
        )
    suite.table("Confirmations of payments, one worker process", figures)
    suite.goal(Goal("confirmations / RQ SimpleWorker", figures["Dues"].median / figures["RQ SimpleWorker"].median, 1))


def scaling(suite: Suite, mails: Mails, relay_process: PausableProcess, rounds: int, count: int) -> None:
    """One worker against four, with a slow mail server; `count` mails for each worker."""
    mails.slow_down()
    one, four = DuesWorkers(mails, relay_process, 1), DuesWorkers(mails, relay_process, 4)
    with started_paused(one.process, four.process, relay_process):
        figures = interleave(
            rounds,
            {"1 worker": lambda: one.rate(count), "4 workers": lambda: four.rate(4 * count)},
            "mails/s",
            warm_up=False,
        )
    suite.table(f"The same with a mail server that takes {_DELAY_MS} ms", figures)
    suite.goal(Goal("4 workers / 1 worker", figures["4 workers"].median / figures["1 worker"].median, 3))


def measure(suite: Suite, data: Data, rounds: int, count: int) -> None:
    """`count` confirmations in each backlog, and fewer with the slow mail server."""
    relay_process = relay(data)
    with mails(data) as sent:
        confirmations(suite, data, sent, relay_process, rounds, count)
        scaling(suite, sent, relay_process, rounds, max(count // 8, 30))
