"""What PostgreSQL says decides what becomes of a request and of the connection: from real errors, and by the table."""

from collections.abc import Iterator

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dues.postgres import db, failure_of, fetch_row, repeated, transaction
from dues.postgres.sqlstate import is_repeatable
from tests.factory import Factory
from tests.read_only import read_only_database
from tests.servers import Servers

PID = "select pg_backend_pid()"


class Said(psycopg2.Error):
    """An error with a code of the server's."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message)
        self._code = code

    @property
    def pgcode(self) -> str:  # type: ignore[override]
        return self._code


@pytest.mark.parametrize(
    ("code", "drops", "repeatable"),
    [
        ("08006", True, False),
        ("08P01", True, False),
        ("25006", True, False),
        ("25P03", True, False),
        ("25P04", True, False),
        ("26000", True, True),
        ("40001", False, True),
        ("40P01", False, True),
        ("53100", False, False),
        ("53200", False, False),
        ("53300", True, False),
        ("55P03", False, False),
        ("57014", False, False),
        ("57P01", True, False),
        ("57P02", True, False),
        ("57P03", True, False),
        ("57P05", True, False),
        ("58030", False, False),
    ],
)
def test_what_is_no_fault_of_the_program(code: str, drops: bool, repeatable: bool) -> None:
    failure = failure_of(Said(code))
    assert failure
    assert (failure.drops, failure.repeatable) == (drops, repeatable)


@pytest.mark.parametrize("code", ["0A000", "22P02", "23505", "25P02", "42601", "42P01", "42501", "XX000"])
def test_what_is_a_bug(code: str) -> None:
    assert failure_of(Said(code)) is None


def test_what_refers_to_a_row_that_was_just_deleted_is_done_again() -> None:
    """Once; it is a bug where it still does so."""
    assert is_repeatable(Said("23503"))
    assert failure_of(Said("23503")) is None
    assert not is_repeatable(Said("23505"))


@pytest.mark.parametrize("error", [None, ValueError("x"), psycopg2.ProgrammingError("x")])
def test_what_is_no_failure_of_the_database(error: Exception | None) -> None:
    assert failure_of(error) is None


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@pytest.mark.usefixtures("context")
def test_a_plan_that_a_migration_has_outdated_is_made_anew() -> None:
    """Whatever the language that the server speaks."""
    with db.engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("create temp table plans(a int); prepare planned as select * from plans; execute planned")
        cursor.execute("alter table plans add b int")
        with pytest.raises(psycopg2.errors.FeatureNotSupported) as refused:
            cursor.execute("execute planned")
    refused.value.args = ("el plan almacenado no debe cambiar el tipo de resultado",)
    failure = failure_of(refused.value)
    assert failure
    assert failure.drops
    assert failure.repeatable


def pids() -> set[int]:
    """The backends of two pooled connections."""
    with db.engine.connect() as one, db.engine.connect() as other:
        return {connection.exec_driver_sql(PID).scalar_one() for connection in (one, other)}


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("by_session", [False, True], ids=["statement", "session"])
def test_a_connection_that_takes_no_writes_is_dropped_with_its_neighbours(by_session: bool) -> None:
    def write() -> None:
        with transaction() as session:
            fetch_row("set transaction read only", {})
            if by_session:
                session.execute(text("delete from schedule_ticks"))
            else:
                fetch_row("delete from schedule_ticks returning 1", {})

    before = pids()
    with pytest.raises((psycopg2.Error, DBAPIError)) as refused:
        write()
    failure = failure_of(refused.value)
    assert failure
    assert failure.detail == "the database takes no writes at the moment"
    assert not before & pids()


@pytest.mark.usefixtures("context")
def test_a_connection_that_the_server_calls_read_only_is_exchanged_before_a_write() -> None:
    with db.engine.connect() as connection:
        connection.exec_driver_sql("set default_transaction_read_only = on")
    before = pids()
    delete = "delete from schedule_ticks where name = 'none' returning 1"
    assert fetch_row(delete, {}) is None
    with transaction():
        fetch_row("select 1", {})
        fetch_row(delete, {})
    assert before != pids()


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize(
    ("code", "times", "tried"), [("40P01", 1, 2), ("40001", 1, 2), ("40P01", 5, 2), ("57014", 1, 1)]
)
def test_a_unit_of_work_is_done_once_more_where_others_were_in_its_way(code: str, times: int, tried: int) -> None:
    tries: list[int] = []

    def work() -> int:
        with transaction() as session:
            tries.append(1)
            if len(tries) <= times:
                session.execute(
                    text(f"do $$ begin raise exception 'as the server would' using errcode = '{code}'; end $$")
                )
        return len(tries)

    if times < tried:
        assert repeated(work) == tried
    else:
        with pytest.raises(DBAPIError):
            repeated(work)
    assert len(tries) == tried


def test_a_read_only_database_is_503_and_well_again_without_a_restart(
    client: FlaskClient, servers: Servers, make: Factory
) -> None:
    user = make.user()
    auth, name = make.auth(user), {"name": "Renamed"}
    assert client.patch("/v1/me", json=name, headers=auth).status_code == 200
    with read_only_database(servers.direct):
        for _ in range(3):
            answer = client.patch("/v1/me", json=name, headers=auth)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json
            assert answer.json["detail"] == "the database takes no writes at the moment"
        assert client.get("/v1/me", headers=auth).status_code == 200
        ready = client.get("/readyz")
        assert ready.json
        assert (ready.status_code, ready.json["detail"]) == (503, "database is read-only")
    assert client.get("/readyz").status_code == 200
    assert client.patch("/v1/me", json=name, headers=auth).status_code == 200
