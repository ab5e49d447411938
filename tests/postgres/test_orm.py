"""The short road for reads: one statement on a connection of the pool, which comes back whatever happened."""

from contextlib import suppress
from uuid import UUID

import psycopg2
import pytest
from flask import Flask
from psycopg2.extensions import adapt
from sqlalchemy import select, text
from sqlalchemy.exc import StatementError

from dues.accounts.models import User
from dues.postgres import db, fetch_row, in_transaction, run_later, transaction
from dues.reads.tags import touch
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


def test_an_id_is_written_briefly_whoever_has_opened_the_connection(make: Factory) -> None:
    """SQLAlchemy has psycopg2 write ids in a way that takes three times as long."""
    given = UUID("0193a1c0-0000-7000-8000-00000000a0b1")
    db.engine.dispose()
    with db.engine.connect() as connection:
        connection.execute(text("select 1"))
    assert adapt(given).getquoted() == b"'0193a1c000007000800000000000a0b1'::uuid"
    assert fetch_row("select %(id)s", {"id": given}) == (given,)


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


def terminate(make: Factory, pid: object) -> None:
    assert make.value("select pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})


def test_a_write_on_a_connection_that_the_server_closed_is_made_on_another(make: Factory) -> None:
    user = make.user(name="Old")
    for with_session in (False, True):
        before = (fetch_row(PID, {}) or ())[0]
        terminate(make, before)
        with transaction() as session:
            if with_session:
                session.get_one(User, user.id).name = "Newer"
            else:
                run_later("update users set name = 'New' where id = %(id)s", {"id": str(user.id)})
            touch(f"user:{user.id}", "users")
            assert (fetch_row(PID, {}) or (before,))[0] != before
        name = make.value("select name from users where id = %(id)s", {"id": str(user.id)})
        assert name == ("Newer" if with_session else "New")
        assert borrowed() == 0


@pytest.mark.parametrize("with_session", [False, True])
def test_a_connection_that_is_lost_amid_a_unit_of_work_fails_it_and_no_other(make: Factory, with_session: bool) -> None:
    def work() -> None:
        with transaction() as session:
            if with_session:
                session.scalars(select(User)).all()
            terminate(make, (fetch_row(PID, {}) or ())[0])
            fetch_row("select 1", {})

    for _ in range(2):
        with pytest.raises(psycopg2.OperationalError):
            work()
        assert borrowed() == 0
        assert fetch_row("select 1", {}) == (1,)


def test_a_commit_that_is_lost_is_an_error(make: Factory) -> None:
    with pytest.raises(psycopg2.OperationalError), transaction():
        terminate(make, (fetch_row(PID, {}) or ())[0])
    assert borrowed() == 0


def test_a_failed_statement_that_nobody_minded_is_no_silent_rollback() -> None:
    with pytest.raises(RuntimeError, match="had failed"), transaction(), suppress(psycopg2.Error):
        fetch_row("select 1 / 0", {})
    assert borrowed() == 0
    assert fetch_row("select 1", {}) == (1,)


def test_a_session_that_failed_commits_nothing(make: Factory) -> None:
    user = make.user(name="Old")

    def work() -> None:
        with transaction() as session:
            fetch_row("update users set name = 'New' where id = %(id)s returning id", {"id": str(user.id)})
            touch(f"user:{user.id}", "users")
            session.add(User(id=object(), email="a@example.com", name="A", password_hash=""))
            with suppress(StatementError):
                session.flush()

    with pytest.raises(RuntimeError, match="has failed"):
        work()
    assert make.value("select name from users where id = %(id)s", {"id": str(user.id)}) == "Old"
    assert borrowed() == 0


def test_a_rollback_that_would_undo_nothing_is_refused(make: Factory) -> None:
    with pytest.raises(RuntimeError, match="by an exception"), transaction() as session:
        session.rollback()
    assert borrowed() == 0


def test_the_session_works_on_the_connection_of_the_unit_of_work(make: Factory) -> None:
    user = make.user(name="Old")
    held = db.session.get_one(User, user.id)
    with transaction() as session:
        (pid,) = session.execute(text("select pg_backend_pid()")).one()
        assert (fetch_row(PID, {}) or ())[0] == pid
        assert session.get(User, user.id) is held
        held.name = "New"
        touch(f"user:{user.id}", "users")
        assert fetch_row("select name from users where id = %(id)s", {"id": str(user.id)}) == ("New",)
    assert held.name == "New"
    assert db.session.get(User, user.id) is held
    assert borrowed() == 0


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
