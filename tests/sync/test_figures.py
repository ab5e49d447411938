"""What sync costs, as `bin/test --slow tests/sync/test_figures.py -s` prints it: changes pulled, nothing to pull, and
what noting the changes takes of a payment."""

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from types import SimpleNamespace as Made

import psycopg2
import pytest
import ujson
from flask.testing import FlaskClient

from dues.ids import new_id
from tests.factory import Factory
from tests.servers import Servers
from tests.sync.conftest import MakeDevice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = 100_000


def test_a_hundred_thousand_changes(device_of: MakeDevice, make: Factory, owner: Made, store: Made) -> None:
    make.payments(store, ROWS, users=[make.user() for _ in range(50)])
    make.rows("analyze sync_changes; select 1 as one")
    device = device_of(owner)
    began = time.perf_counter()
    device.sync()
    seconds = time.perf_counter() - began
    print(f"\n{ROWS} payments pulled in {seconds:.1f} s: {ROWS / seconds:,.0f} a second, in pages of 500")
    assert len(device.of("payment")) == ROWS


def test_nothing_new(client: FlaskClient, make: Factory, member: Made, owner: Made, store: Made) -> None:
    make.payments(store, 10_000, users=[member])
    make.subscription(store, member)
    auth = make.auth(member)
    page = ujson.loads(client.get("/v1/sync", headers=auth).data)
    while page["has_more"]:
        page = ujson.loads(client.get(f"/v1/sync?cursor={page['cursor']}", headers=auth).data)
    pull, kept, fresh = f"/v1/sync?cursor={page['cursor']}", "/v1/me/payments", f"/v1/stores/{store.id}"
    taken = in_turn([partial(client.get, path, headers=auth) for path in (pull, kept, fresh)], 300)
    for name, seconds in zip(("nothing new", "payments from the cache", "a store from the cache"), taken, strict=True):
        print(f"\n{name}: {seconds * 1000:.2f} ms", end="")
    print(f"\nnothing new takes {taken[0] / taken[1]:.1f} times a page of payments from the cache")


def test_what_noting_takes_of_a_payment(client: FlaskClient, make: Factory, member: Made, store: Made) -> None:
    auth = make.auth(member)
    body = {"amount": 100, "currency": "EUR", "payment_method": "sandbox_ok"}

    def pay(key: str) -> float:
        began = time.perf_counter()
        path = f"/v1/stores/{store.id}/payments"
        assert client.post(path, json=body, headers=auth | {"Idempotency-Key": key}).status_code == 202
        return time.perf_counter() - began

    taken: dict[str, list[float]] = {"enable": [], "disable": []}
    switch = "alter table payments {} trigger payments_sync_note; select 1 as one"
    try:
        for turn in range(20):
            for word, seconds in taken.items():
                make.rows(switch.format(word))
                seconds += [pay(f"{turn}-{word}-{n}") for n in range(20)]
    finally:
        make.rows(switch.format("enable"))
    noted, alone = (statistics.median(seconds) * 1000 for seconds in taken.values())
    print(f"\na payment takes {noted:.2f} ms, without the trigger {alone:.2f} ms: {noted / alone - 1:+.1%}")


INSERT = """
    explain (analyze, format json) insert into payments
    select (jsonb_populate_record(p, jsonb_build_object('id', %(id)s, 'invoice_id', null))).* from payments p
    where p.id = %(like)s
"""
UPDATE = "explain (analyze, format json) update payments set version = version + 1 where id = %(id)s"


def test_the_trigger_by_itself(servers: Servers, make: Factory, member: Made, store: Made) -> None:
    """What PostgreSQL says that it takes of the statements of a payment, and beside that of the commit."""
    like = make.payment(store, member)
    with closing(psycopg2.connect(servers.database_url)) as connection, connection.cursor() as cursor:
        taken: dict[str, list[float]] = {}
        for _ in range(300):
            id_ = str(new_id())
            for name, statement in (("insert", INSERT), ("update", UPDATE)):
                cursor.execute(statement, {"id": id_, "like": str(like.id)})
                ((plan,),) = cursor.fetchone() or ()
                taken.setdefault(f"{name}, in all", []).append(plan["Execution Time"])
                for trigger in plan["Triggers"]:
                    taken.setdefault(f"{name}, {trigger['Trigger Name']}", []).append(trigger["Time"])
            began = time.perf_counter()
            connection.commit()
            taken.setdefault("commit", []).append((time.perf_counter() - began) * 1000)
    for name, times in taken.items():
        print(f"\n{name}: {statistics.median(times) * 1000:.0f} µs", end="")
    print()


def in_turn(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median seconds of each, of so many rounds in which each is called once."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, seconds in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in taken]
