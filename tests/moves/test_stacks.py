"""Two whole Dues on this machine, with web servers, relays and workers, and clients that pay while a store moves."""

import json
import os
import shlex
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask import Flask

from dues.billing.audit import audit
from dues.ids import new_id
from tests.factory import Factory
from tests.moves.conftest import PAYMENT, End
from tests.servers import Mailbox, Servers, wait_until
from tests.webserver import WebServer
from tests.workers.conftest import Processes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FLASK = [sys.executable, "-m", "flask", "--app", "wsgi", "stores"]
PAYERS, BEFORE, AFTER = 4, 5, 5


class Stack:
    """A Dues whose every part runs."""

    def __init__(self, servers: Servers, app: Flask, until: ExitStack) -> None:
        self.servers, self.app, self.make = servers, app, Factory(servers.direct)
        self.web = until.enter_context(WebServer(servers))
        processes = Processes(servers)
        processes.start_both("critical:1,default:1,events:1,slow:1")
        until.callback(processes.end)

    @property
    def environ(self) -> dict[str, str]:
        return self.servers.environ(PUBLIC_URL=self.web.url)


@pytest.fixture
def stacks(app: Flask, servers: Servers, elsewhere: End) -> Iterator[tuple[Stack, Stack]]:
    with ExitStack() as until:
        yield Stack(servers, app, until), Stack(elsewhere.servers, elsewhere.app, until)


class Payer(threading.Thread):
    """Pays again and again, each time until the payment is accepted, wherever the store is. Sends what is refused, or
    not answered, again with its key."""

    def __init__(self, store: Row, user: Row, auths: dict[str, dict[str, str]], url: str) -> None:
        super().__init__()
        self._path, self._user, self._auths, self._url = f"/v1/stores/{store.id}/payments", user, auths, url
        self.accepted: dict[str, list[str]] = {url: [] for url in auths}
        self.answers: list[int] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            self._pay(new_id().hex)
            # So that what is left to be charged at the end is bounded, however long the move takes.
            self.stopped.wait(0.25)

    def _pay(self, key: str) -> None:
        while True:
            status, body = self._send(key)
            self.answers.append(status)
            if status == 202:
                self.accepted[self._url].append(body["id"])
                return
            if status == 421:
                self._url = body["address"]
            else:
                assert status == 503, body
                self.stopped.wait(0.05)

    def _send(self, key: str) -> tuple[int, dict[str, Any]]:
        headers = {**self._auths[self._url], "Idempotency-Key": key, "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + self._path, json.dumps(PAYMENT).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


def run_move(store: Row, here: Stack, there: Stack, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    names = {name: value for name, value in there.environ.items() if os.environ.get(name) != value}
    to = ["env", *(f"{name}={value}" for name, value in names.items()), "DUES_FAILPOINTS=", *FLASK, "receive"]
    command = [*FLASK, "move", str(store.id), "--to", shlex.join(to)]
    environ = {**here.environ, "DUES_FAILPOINTS": failpoints}
    return subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("line", ["", "move.before_switch", "move.after_switch", "move.after_commit"])
def test_no_payment_is_lost_or_made_twice_while_a_store_moves(
    stacks: tuple[Stack, Stack], mailbox: Mailbox, tmp_path: Path, line: str
) -> None:
    here, there = stacks
    store, mails = here.make.store(here.make.user()), Mailbox(there.servers.mail)
    payers = []
    for _ in range(PAYERS):
        user = here.make.user()
        there.make.user(id=user.id, email=user.email)
        auths = {here.web.url: here.make.auth(user), there.web.url: there.make.auth(user)}
        payers.append(Payer(store, user, auths, here.web.url))
    for payer in payers:
        payer.start()
    try:
        wait_until(lambda: all(len(payer.accepted[here.web.url]) >= BEFORE for payer in payers), 60, "payments here")
        if line:
            killed = run_move(store, here, there, f"{line}=kill:{tmp_path}/marker")
            assert killed.returncode == -9, killed.stderr
        done = run_move(store, here, there)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"moved to {there.web.url}\n"
        wait_until(lambda: all(len(payer.accepted[there.web.url]) >= AFTER for payer in payers), 60, "payments there")
    finally:
        for payer in payers:
            payer.stopped.set()
        for payer in payers:
            payer.join(60)
    accepted = sorted(found for payer in payers for ids in payer.accepted.values() for found in ids)
    _all_are_charged_and_confirmed_once(here, there, store, accepted, mailbox, mails)
    assert {status for payer in payers for status in payer.answers} <= {202, 421, 503}


def _all_are_charged_and_confirmed_once(
    here: Stack, there: Stack, store: Row, accepted: list[str], mailbox: Mailbox, mails: Mailbox
) -> None:
    find = "select id::text, status from payments where store_id = %(id)s order by id"
    unfinished = "select count(*) from payments where store_id = %(id)s and status <> 'succeeded'"
    wait_until(lambda: there.make.value(unfinished, {"id": store.id}) == 0, 240, "all payments to be charged")
    assert [row.id for row in there.make.rows(find, {"id": store.id})] == accepted
    assert here.make.rows(find, {"id": store.id}) == []
    charged = "select key from sandbox_gateway.operations where kind = 'charge' and outcome = 'succeeded' order by key"
    assert [row.key for row in there.make.rows(charged)] == accepted
    assert here.make.rows(charged) == []
    wait_until(lambda: len(mailbox.mails()) + len(mails.mails()) >= len(accepted), 240, "all confirmations")
    assert len(mailbox.mails()) + len(mails.mails()) == len(accepted)
    assert there.make.value("select last_seq = (select count(*) from events e where e.store_id = s.store_id)"
                            " from event_streams s where store_id = %(id)s", {"id": store.id})  # fmt: skip
    for stack in (here, there):
        with stack.app.app_context():
            assert audit() == []
