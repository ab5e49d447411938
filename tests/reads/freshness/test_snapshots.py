"""What PostgreSQL's snapshots say, and that the stand-in of the explorer says the same."""

import random
from contextlib import ExitStack, closing

import psycopg2.extensions
import pytest

from dues.reads.freshness.snapshot import covers
from tests.reads.freshness.conftest import connect
from tests.reads.freshness.postgres import Postgres, Transaction
from tests.reads.freshness.scheduler import Scheduler
from tests.servers import Servers, wait_until


@pytest.mark.parametrize(
    ("version", "snapshot", "covered"),
    [
        ("9;", "10:10:", True),
        ("10;", "10:10:", False),
        ("9;10", "11:11:", True),
        ("9;10", "10:10:", False),
        ("9;10,12", "11:13:11", True),
        ("9;10,11", "11:13:11", False),
        ("9;13", "11:13:11", False),
        ("9; 9;12", "11:12:", False),
        ("9; 9;12", "13:13:", True),
        ("999999999999;", "1000000000000:1000000000000:", True),
        ("", "10:10:", False),
        ("no version", "10:10:", False),
        ("9;1,,2", "10:10:", False),
    ],
)
def test_a_snapshot_covers_the_transactions_it_has_seen_the_end_of(version: str, snapshot: str, covered: bool) -> None:
    assert covers(version, snapshot) is covered


def _ask(connection: psycopg2.extensions.connection, sql: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        (value,) = cursor.fetchone() or ("",)
        return str(value)


def test_ids_above_a_snapshots_end_may_be_running_already(servers: Servers) -> None:
    """Why a new tag's floor is not taken from a snapshot: a writer that has touched can be above all it names."""
    with closing(connect(servers)) as writing, closing(connect(servers)) as reading:
        reading.autocommit = True

        def is_so() -> bool:
            writing.rollback()
            running = int(_ask(writing, "select pg_current_xact_id()::text"))
            _, xmax, _ = _ask(reading, "select pg_current_snapshot()::text").split(":")
            return int(xmax) <= running

        # Unless others of this PostgreSQL end a transaction in between.
        wait_until(is_so)


def test_the_stand_in_says_what_postgresql_says(servers: Servers) -> None:
    """The same transactions in both; of each snapshot, which of them it has seen the end of."""
    choose = random.Random(7)
    scheduler = Scheduler(0)
    scheduler.step = lambda: None  # type: ignore[method-assign]
    stand_in = Postgres(scheduler, rows=1)
    with ExitStack() as stack:
        real = [stack.enter_context(closing(connect(servers))) for _ in range(4)]
        reading = stack.enter_context(closing(connect(servers)))
        reading.autocommit = True
        running: dict[int, tuple[int, Transaction]] = {}
        known: list[tuple[int, int]] = []
        for _ in range(200):
            slot = choose.randrange(4)
            if slot not in running:
                transaction = stand_in.begin()
                stand_in.write(transaction, 0)
                assert transaction.xid
                running[slot] = int(_ask(real[slot], "select pg_current_xact_id()::text")), transaction
                known.append((running[slot][0], transaction.xid))
            elif choose.random() < 0.5:
                real[slot].commit()
                stand_in.commit(running.pop(slot)[1])
            else:
                real[slot].rollback()
                stand_in.roll_back(running.pop(slot)[1])
            theirs, ours = _ask(reading, "select pg_current_snapshot()::text"), stand_in.read((0,))[1]
            for real_xid, own_xid in known[-12:]:
                assert covers(f"0;{real_xid}", theirs) == covers(f"0;{own_xid}", ours)
