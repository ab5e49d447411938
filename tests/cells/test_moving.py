"""A store moves from one cell to another under one name, while it is paid at, through the gateway."""

import os
import shlex
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from dues.billing.audit import audit
from dues.ids import new_id
from tests.cells.conftest import Client, Name, Shop, Stack
from tests.moves.conftest import End
from tests.servers import wait_until

ROOT = Path(__file__).resolve().parents[2]
FLASK = [sys.executable, "-m", "flask", "--app", "wsgi", "stores"]


class Payer(threading.Thread):
    """Pays again and again through the gateway; what is refused for now, or not answered, is sent again with its
    key."""

    def __init__(self, client: Client, store: Shop, pause_s: float) -> None:
        super().__init__()
        self._client, self._store, self._pause_s = client, store, pause_s
        self.accepted: list[str] = []
        self.statuses: set[int] = set()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            key = new_id().hex
            while (answer := self._client.pay(self._store, key)).status != 202:
                self.statuses.add(answer.status)
                assert answer.status == 503, answer
                self.stopped.wait(0.05)
            self.accepted.append(answer.body["id"])
            # So that what is left to be charged at the end is bounded, however long the move takes.
            self.stopped.wait(self._pause_s)


def ends(stack: Stack) -> End:
    return End(stack.app, stack.servers, stack.make)


def move(store: Shop, here: Stack, there: Stack, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    """`flask stores move`, as an operator runs it."""
    environ = {"CELL": "", "CELLS": "", **there.servers.environ(**there.environ)}
    words = [f"{name}={value}" for name, value in environ.items() if os.environ.get(name) != value]
    receiver = shlex.join(["env", *words, *FLASK, "receive"])
    return subprocess.run(
        [*FLASK, "move", store.id, "--to", receiver],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        env=here.servers.environ(**here.environ, DUES_FAILPOINTS=failpoints),
    )


def paid_while(name: Name, store: Shop, clients: list[Client], moves: list[tuple[str, str, str]], tmp: Path) -> None:
    """Make the moves (whence, where to, and where the mover is killed before it is run anew) while the clients pay; see
    that each payment that was acknowledged is there once, and charged once."""
    stacks = {"": name.directory, **name.cells}
    is_killed = any(line for _, _, line in moves)
    payers = [Payer(client, store, 2.0 if is_killed else 0.3) for client in clients]
    for payer in payers:
        payer.start()
    try:
        for whence, to, line in moves:
            paid = [len(payer.accepted) for payer in payers]
            if line:
                killed = move(store, stacks[whence], stacks[to], f"{line}=kill:{tmp}/{new_id().hex}")
                assert killed.returncode == -9, killed.stderr
                done = move(store, stacks[whence], stacks[to])
                assert done.returncode == 0, done.stderr
            else:
                ends(stacks[whence]).move(SimpleNamespace(id=UUID(store.id)), ends(stacks[to]))
            assert name.place(store.id) == to
            wait_until(partial(_have_paid, payers, paid), 60, "payments where it is now")
    finally:
        for payer in payers:
            payer.stopped.set()
        for payer in payers:
            payer.join(60)
    name.work()
    accepted = sorted(payment for payer in payers for payment in payer.accepted)
    at = stacks[moves[-1][1]]
    assert [row.id for row in at.make.rows("select id::text from payments order by id")] == accepted
    charged = "select key from sandbox_gateway.operations where kind = 'charge' and outcome = 'succeeded' order by key"
    assert [row.key for row in at.make.rows(charged)] == accepted
    for stack in stacks.values():
        if stack is not at:
            assert stack.make.value("select count(*) from payments") == 0
        with stack.app.app_context():
            assert audit() == []
    assert set().union(*(payer.statuses for payer in payers)) <= {503}


def _have_paid(payers: list[Payer], before: list[int]) -> bool:
    return all(len(payer.accepted) > paid + 1 for payer, paid in zip(payers, before, strict=True))


def test_no_payment_is_lost_or_made_twice(name: Name, tmp_path: Path):
    ada, bob = name.client_of("a"), name.client_of("b")
    new = {"name": "till", "scopes": ["payments:read"], "store_id": ada.store.id}
    token = ada.ask("POST", "/v1/tokens", new).body
    paid_while(name, ada.store, [ada, bob], [("a", "b", "")], tmp_path)
    # What was bound to the store opens it where it is now.
    till = Client(name, ada.id, ada.email, token["token"], token["id"])
    assert till.ask("GET", f"{ada.store.path}/payments").status == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "",
        "move.before_switch",
        "move.after_switch",
        "move.after_commit",
        "move.before_told",
        "move.before_removal",
    ],
)
def test_wherever_the_mover_is_killed(name: Name, line: str, tmp_path: Path):
    ada, bob = name.client_of("a"), name.client_of("b")
    moves = [("a", "b", line), ("b", "", ""), ("", "a", line)]
    paid_while(name, ada.store, [ada, bob, name.sign_up()], moves, tmp_path)
