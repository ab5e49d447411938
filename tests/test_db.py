"""The short road for reads: one statement on a connection of the pool, which comes back whatever happened."""

from contextlib import suppress

import psycopg2
import pytest
from flask import Flask

from dues.db import db, fetch_row, in_transaction, transaction
from tests.factory import Factory

PID = "select pg_backend_pid(), current_setting('transaction_isolation'), txid_current_if_assigned()"

LIKE = "prepare % as select status from idempotency_keys%"


@pytest.fixture(autouse=True)
def context(app: Flask) -> object:
    with app.app_context():
        yield


def borrowed() -> int:
    pool = db.engine.pool
    count: int = pool.checkedout()  # type: ignore[attr-defined]
    return count


def test_reads_one_after_the_other_use_one_connection_and_leave_no_transaction_open(make: Factory) -> None:
    pids = {(fetch_row(PID, {}) or ())[0] for _ in range(5)}
    assert len(pids) == 1
    assert make.value("select state from pg_stat_activity where pid = %(pid)s", {"pid": pids.pop()}) == "idle"
    assert borrowed() == 0


def test_a_connection_that_the_server_closed_is_replaced_unseen(make: Factory) -> None:
    before = (fetch_row(PID, {}) or ())[0]
    assert make.value("select pg_terminate_backend(%(pid)s, 5000)", {"pid": before})
    after = (fetch_row(PID, {}) or ())[0]
    assert after != before
    assert borrowed() == 0


def test_a_statement_that_fails_gives_its_connection_back_in_order() -> None:
    before = (fetch_row(PID, {}) or ())[0]
    with pytest.raises(psycopg2.errors.DivisionByZero):
        fetch_row("select 1 / %(n)s", {"n": 0})
    assert borrowed() == 0
    assert (fetch_row(PID, {}) or ())[0] == before


def test_inside_a_transaction_a_read_sees_what_was_written(make: Factory) -> None:
    find = "select name from users where id = %(id)s", {"id": str(make.user(name="Old").id)}
    with suppress(KeyError), transaction() as session:
        session.connection().exec_driver_sql("update users set name = 'New' where id = %(id)s", find[1])
        assert in_transaction()
        assert fetch_row(*find) == ("New",)
        raise KeyError
    assert not in_transaction()
    assert fetch_row(*find) == ("Old",)


def test_a_request_that_only_reads_makes_no_session() -> None:
    fetch_row(PID, {})
    assert not in_transaction()
    assert not db.session.registry.has()


def test_a_statement_prepared_while_its_table_was_empty_does_not_read_all_of_it_later(make: Factory) -> None:
    find = "select status from idempotency_keys where scope = %(scope)s and key = %(key)s", {"scope": "s", "key": "1"}
    make.rows("vacuum analyze idempotency_keys")
    # Often enough for the server to keep one plan for all values.
    for _ in range(20):
        fetch_row(*find)
    with db.engine.connect() as connection:
        names = connection.exec_driver_sql("select name from pg_prepared_statements where statement like %s", (LIKE,))
        (name,) = names.scalars()
        plan = connection.exec_driver_sql(f"explain execute {name}('s', '1')").scalars().all()
    assert "Index" in plan[0], plan
