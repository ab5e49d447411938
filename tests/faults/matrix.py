"""The fault matrix: what strikes, at which moment, and what it may leave in doubt.

A row is a function that has customers pay and lets the fault strike; tests/faults/play.py then holds each payment to
what was promised. Rows that a mail passes through are played twice: with a provider that can be asked, and without.
"""

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import redis

from dues.jobs.kinds import QUEUES
from tests.faults.house import Mode, Role, family
from tests.faults.play import GatewayName, Play
from tests.servers import wait_until
from tests.workers.conftest import ended
from workers.rq_queues import queue

Act = Callable[[Play], None]

BOTH: tuple[Mode, ...] = ("asked", "plain")
ASKED: tuple[Mode, ...] = ("asked",)


@dataclass(frozen=True)
class Row:
    """`lines` are failpoints by the role of the processes that pass them. Where nobody can be asked, `in_doubt` mails
    end up `unknown`; `rejected` ones the mail server refuses. `within_s`: the longest that recovery may take."""

    fault: str
    moment: str
    act: Act
    modes: tuple[Mode, ...] = ASKED
    lines: Mapping[Role, Mapping[str, str]] = field(default_factory=dict)
    in_doubt: int = 0
    rejected: int = 0
    lease_s: int = 2
    within_s: float = 60.0
    gateway: GatewayName = "sandbox"

    @property
    def name(self) -> str:
        return f"{self.fault}, {self.moment}"


Enter = Callable[..., Callable[[Act], Act]]


def entering(rows: list[Row]) -> Enter:
    """A decorator that enters a function into `rows`: `@row(fault, moment, …)`, with the columns of a Row."""

    def row(fault: str, moment: str, **columns: Any) -> Callable[[Act], Act]:
        def enter(act: Act) -> Act:
            rows.append(Row(fault, moment, act, **columns))
            return act

        return enter

    return row


ROWS: list[Row] = []
row = entering(ROWS)


# The web server: a client that got no answer asks again with the same key.


def _kill_web(line: str, play: Play) -> None:
    marker = play.house.arm_web(line)
    first = play.pay(1)[0]
    assert marker.exists()
    assert first.attempts > 1
    play.strike(marker)


for line, moment in (
    ("payment.after_insert", "after the payment's insert"),
    ("web.before_commit", "before its commit"),
    ("web.after_commit", "after it, before the answer"),
):
    ROWS.append(Row("web -9", moment, partial(_kill_web, line)))


@row("web -9", "the main process, while one below it starts")
def web_server_dies(play: Play) -> None:
    def fault() -> None:
        main = play.house.web.process.pid
        for process in (before := family(main)[1:]):
            process.kill()
        # Before they are ready they hold the port as well.
        wait_until(lambda: set(family(main)[1:]) - set(before), 20, "a new web process")
        below = family(main)[1:]
        play.strike()
        play.house.replace_web()
        _, alive = psutil.wait_procs(below, timeout=10)
        assert not alive
        play.pay()

    play.pay_during(20, fault, after=5)


# Relays.


def _at_line(line: str, play: Play) -> None:
    play.pay()
    play.wait_for_line(line)


for line, moment in (
    ("relay.after_select", "after select"),
    ("relay.after_push", "after push"),
    ("relay.after_commit", "after commit"),
):
    ROWS.append(Row("relay -9", moment, partial(_at_line, line), lines={"relay": {line: "kill"}}))


@row("two relays and sweepers", "leases ended early, deliveries forgotten")
def many_sweepers(play: Play) -> None:
    def disturb() -> None:
        play.strike()
        with closing(redis.Redis.from_url(play.house.redis_url)) as client:
            for _ in range(10):
                play.make.rows("update jobs set lease_until = clock_timestamp() where status = 'running'")
                for name in QUEUES:
                    queue(name, client).empty()
                time.sleep(0.1)

    play.pay_during(60, disturb, after=5)


# Workers killed on the way of a mail: each line of it, in order.

for line, moment, in_doubt in (
    ("worker.before_claim", "before claim", 0),
    ("worker.after_claim", "after claim", 0),
    ("mail.after_claim", "in `sending`", 0),
    ("mail.before_committing", "before `committing`", 0),
    ("mail.after_committing", "after `committing`", 1),
    ("mail.before_dot", "before the dot", 1),
    ("mail.after_dot", "after the dot", 1),
    ("mail.after_reply", "after 250", 1),
    ("mail.after_record", "after `sent`", 1),
    ("worker.after_complete", "after complete", 0),
):
    ROWS.append(Row("worker -9", moment, partial(_at_line, line), BOTH, {"default": {line: "kill"}}, in_doubt=in_doubt))


# Workers told to stop.


@row("worker SIGTERM", "between pop and start", lines={"default": {"worker.after_pop": "term"}})
def term_after_pop(play: Play) -> None:
    _at_line("worker.after_pop", play)
    play.settle()
    assert {job.attempt for job in play.jobs()} == {1}


@row("worker SIGTERM", "during a mail", modes=BOTH)
def term_during_mail(play: Play) -> None:
    play.house.mailbox.behave(delay_ms=600)
    play.pay()
    _wait_for_mail(play, "committing")
    replace_workers(play)
    play.house.mailbox.behave()
    play.settle()
    assert {job.attempt for job in play.jobs()} == {1}


@row("worker SIGTERM", "during a report", lines={"default": {"report.after_batch": "stop"}})
def term_during_report(play: Play) -> None:
    play.pay()
    play.settle()
    path = play.customer.request_report()
    play.wait_for_line("report.after_batch")
    replace_workers(play)
    play.settle()
    [job] = [job for job in play.jobs() if job.kind == "report.build"]
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert play.customer.get_as_owner(path)["rows"] == 3


def replace_workers(play: Play) -> None:
    """As a deployment does: the old ones are told to stop, and new ones start beside them."""
    old = play.crew.workers["default"]
    play.strike()
    old.terminate()
    play.crew.workers["default"] = play.crew.start("default")
    assert ended(old, 25) == 0


def _wait_for_mail(play: Play, state: str) -> None:
    found = "select id from email_sends where state = %(state)s and recipient = %(email)s"
    values = {"state": state, "email": play.customer.row.email}
    wait_until(lambda: play.make.rows(found, values), 20, f"a mail in {state}")


# Workers that stand still for longer than their lease: another has taken over when they wake up.


def _oversleep(line: str, play: Play) -> None:
    play.pay()
    play.wait_for_line(line)
    [sleeper] = play.crew.stopped()
    play.settle()
    sent = play.copies()
    sleeper.send_signal(signal.SIGCONT)
    wait_until(lambda: "lost its lease; another goes on" in play.crew.log(), 20, "the worker to find out")
    assert play.copies() == sent


for line, moment, in_doubt in (
    ("mail.before_committing", "before `committing`", 0),
    ("mail.before_dot", "before the dot", 1),
):
    ROWS.append(
        Row(
            "worker SIGSTOP past its lease",
            moment,
            partial(_oversleep, line),
            BOTH,
            {"default": {line: "stop"}},
            in_doubt=in_doubt,
        )
    )
