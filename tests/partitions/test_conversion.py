"""A table with rows becomes one by month, beside those who use it, and is the same table for them."""

import threading
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from click.testing import Result

from dues.app import create_base
from dues.ids import new_id
from dues.partitions import catalog
from dues.partitions.conversion import convert, first_bound
from dues.partitions.months import label, month_of, next_month
from dues.partitions.tables import BY_NAME, TABLES
from dues.partitions.upkeep import keep_partitions
from dues.postgres import db, patience
from dues.postgres.changing import Busy, Refused, Session, changing
from tests.partitions.conftest import Database
from tests.servers import wait_until

NAMES = [table.name for table in TABLES]
# What everybody sees of a table. Indexes without their names are those that a partition may have by itself; a key that
# leads to a partitioned table is there once more for each of its partitions.
_FORM = """
    select 'column', column_name, data_type || is_nullable || coalesce(column_default, '')
    from information_schema.columns where table_name = %(table)s
    union all select 'index', indexname, regexp_replace(indexdef, ' ON (ONLY )?', ' on ') from pg_indexes
        where tablename = %(table)s
    union all select 'constraint', conname, regexp_replace(pg_get_constraintdef(oid), ' NOT VALID', '')
        from pg_constraint where conrelid = %(table)s::regclass and contype in ('p', 'u', 'c', 'f') and conparentid = 0
    union all select 'referring', conrelid::regclass::text || conname, pg_get_constraintdef(oid) from pg_constraint
        where contype = 'f' and confrelid = %(table)s::regclass and conparentid = 0
    union all select 'trigger', tgname, pg_get_triggerdef(oid) from pg_trigger
        where tgrelid = %(table)s::regclass and not tgisinternal
    order by 1, 2
"""
# What a partitioned table cannot hold over all its partitions, and what takes its place.
GONE = {
    "jobs": {("index", "jobs_dedupe_key")},
    "webhook_deliveries": {("index", "webhook_deliveries_asked_key")},
    "email_sends": {("index", "email_sends_dedupe_key_key"), ("constraint", "email_sends_dedupe_key_key")},
}
NEW = {
    "jobs": {("trigger", f"jobs_{what}_key") for what in ("take", "keep", "drop")},
    "email_sends": {("trigger", f"email_sends_{what}_key") for what in ("take", "drop")},
}


def form(database: Database, table: str) -> dict[tuple[str, str], str]:
    with database.direct.cursor() as cursor:
        cursor.execute(f"select * from ({_FORM}) f(kind, name, definition)", {"table": table})
        return {(row["kind"], row["name"]): row["definition"] for row in cursor.fetchall()}


def fill(database: Database) -> dict[str, list[Any]]:
    """Some rows in each table. Returns: these."""
    make = database.make
    store = make.store()
    endpoint = make.endpoint(store)
    for _ in range(3):
        payment = make.payment(store)
        make.refund(payment)
        of = {"store_id": store.id, "payment_id": payment.id, "reason": "charged", "to_status": "processing"}
        make.insert("payment_events", {"id": new_id(), **of})
        make.delivery(endpoint, make.event(store))
        job = {"id": new_id(), "kind": "test.quick", "queue": "default", "dedupe_key": str(payment.id)}
        make.insert("jobs", job)
        make.insert("email_sends", {"id": new_id(), "dedupe_key": str(payment.id), "recipient": "a", "raw": b"mail"})
    return {name: rows(database, name) for name in NAMES}


def rows(database: Database, table: str) -> list[Row]:
    return database.make.rows(f"select * from {table} order by id")


def test_rows_all_that_belongs_to_a_table_and_keys_that_lead_to_another_stay(database: Database):
    there = fill(database)
    for table in NAMES:
        before = form(database, table)
        database.convert(table)
        after = form(database, table)
        assert before.keys() - after.keys() == GONE.get(table, set()), table
        assert after.keys() - before.keys() == NEW.get(table, set()), table
        changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
        expected = {("constraint", "events_pkey"), ("index", "events_pkey")} if table == "events" else set()
        assert changed == expected, table
        # They have not moved: the table itself is the partition.
        bound = first_bound(datetime.now(UTC))
        assert set(database.placed(table).values()) == {f"{table}_until_{label(bound)}"}, table
    assert {name: rows(database, name) for name in NAMES} == there
    assert database.make.value("select count(*) from pg_index where not indisvalid") == 0
    make = database.make
    nowhere = {"store_id": there["payments"][0].store_id, "payment_id": new_id(), "id": new_id(), "reason": ""}
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        make.insert("payment_events", nowhere | {"to_status": "failed"})
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        make.rows("delete from payments")


def run_until(database: Database, table: str, number: int) -> int:
    """Turn a table, or go on with one that is turned; PostgreSQL ends the connection before the step of that number.
    Returns: how many steps were begun."""
    begun = 0

    def tell(line: str) -> None:
        nonlocal begun
        begun += 1
        if begun == number:
            database.make.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name = 'dues partitions'"
            )

    with suppress(psycopg2.OperationalError, psycopg2.InterfaceError), changing(database.settings(), tell) as session:
        if not catalog.is_partitioned(session, table):
            convert(session, BY_NAME[table], session.value("select now()"))
        keep_partitions(session, database.settings())
    return begun


@pytest.mark.parametrize("table", [pytest.param("events", marks=pytest.mark.wide), "payments", "jobs"])
def test_what_was_broken_off_anywhere_is_finished_by_asking_again(database: Database, table: str):
    there, number = fill(database), 1
    while run_until(database, table, number) >= number:
        assert rows(database, table) == there[table]
        number += 1
    assert number > 4
    assert len(database.parts(table)) == 3
    assert rows(database, table) == there[table]
    assert ("constraint", f"{table}_partition_bound") not in form(database, table)
    with changing(database.settings()) as session:
        assert all(key.is_validated for key in catalog.referring(session, table))


def test_a_check_that_was_left_behind_is_removed(database: Database):
    """It would refuse what is written one day."""
    database.make.rows(
        "alter table jobs add constraint jobs_partition_bound check (id < gen_random_uuid()) not valid;select 1 as one"
    )
    with changing(database.settings()) as session:
        assert keep_partitions(session, database.settings()) == 0
    assert ("constraint", "jobs_partition_bound") not in form(database, "jobs")


def test_those_who_use_the_table_pass_while_it_waits_for_one_who_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    """As behind a dump: those who come later do not wait as long."""
    monkeypatch.setattr(patience, "LOCK_TIMEOUT_S", 0.3)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.1)
    there = fill(database)
    told: list[str] = []
    with closing(psycopg2.connect(database.url)) as dump, closing(psycopg2.connect(database.url)) as other:
        dump.cursor().execute("select from jobs")
        other.autocommit = True
        turning = threading.Thread(target=database.convert, args=("jobs",), kwargs={"tell": told.append})
        turning.start()
        wait_until(lambda: any("trying again" in line for line in told), 20, "a first try")
        for number in range(5):
            insert = "insert into jobs(id, kind, queue) values (%s, 'test.quick', 'default')"
            other.cursor().execute(f"set statement_timeout = '5s'; {insert}", (str(new_id()),))
            assert database.parts("jobs") == [], number
        dump.rollback()
        turning.join(30)
    assert len(rows(database, "jobs")) == len(there["jobs"]) + 5
    assert len(database.parts("jobs")) == 2


def test_two_at_once_are_one(database: Database):
    with changing(database.settings()), pytest.raises(Busy), changing(database.settings()):
        pass


# What is in the way, how it is named, and how it is removed.
REFUSALS = {
    "a view": ("create view ours as select * from events", "the view ours", "drop view ours"),
    "a publication": ("create publication ours for table events", "the publication ours", "drop publication ours"),
    "rights to a column": (
        "grant select (seq) on events to public",
        "the rights to the column seq",
        "revoke select (seq) on events from public",
    ),
    "a constraint that may not hold": (
        "alter table events add constraint c check (seq > 0) not valid",
        "validate constraint c comes first",
        "alter table events drop constraint c",
    ),
}


def test_what_would_stay_with_a_part_of_the_table_is_refused(database: Database):
    for what, (statement, named, undone) in REFUSALS.items():
        database.make.rows(statement)
        before = form(database, "events")
        with pytest.raises(Refused, match=named):
            database.convert("events")
        assert form(database, "events") == before, what
        database.make.rows(undone)
    database.convert("events")


def test_a_table_that_others_refer_to_comes_before_them(database: Database):
    database.convert("payment_events")
    with pytest.raises(Refused, match="payments must come first"):
        database.convert("payments")


def run(database: Database, *words: str) -> Result:
    app = create_base(database.settings())
    try:
        return app.test_cli_runner().invoke(args=["partitions", *words])
    finally:
        with app.app_context():
            db.engine.dispose()


def test_ids_that_say_nothing_of_the_time_are_refused_and_nothing_is_left(database: Database):
    fill(database)
    database.make.insert(
        "email_sends", {"id": "ffffffff-0000-4000-8000-000000000000", "dedupe_key": "x", "recipient": "a", "raw": b""}
    )
    before = form(database, "email_sends")
    result = run(database, "apply", "email_sends")
    assert result.exit_code == 1
    assert "Error: email_sends has rows whose ids lie further ahead than a month" in result.output
    assert form(database, "email_sends") == before


@pytest.mark.parametrize("moment", ["create unique index", "create table events "])
def test_a_full_disk_is_said_and_leaves_the_table_as_it_was(
    database: Database, moment: str, monkeypatch: pytest.MonkeyPatch
):
    there, send = fill(database), Session._send
    before = form(database, "events")
    full = "do $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$"

    def alone(session: Session, statement: str) -> None:
        send(session, full if moment in statement else statement)

    with monkeypatch.context() as patched:
        if moment.startswith("create unique"):
            patched.setattr(Session, "alone", alone)
        else:
            patched.setattr(Session, "_send", lambda self, text: send(self, text.replace(moment, f"{full}; {moment}")))
        result = run(database, "apply", "events")
    assert result.exit_code == 1
    assert "the database has no room or memory left for this at the moment: could not extend file" in result.output
    assert "events is as it was" in result.output
    found = form(database, "events")
    found.pop(("index", "events_partition_key"), None)
    assert found == before
    assert rows(database, "events") == there["events"]
    assert run(database, "apply", "events").exit_code == 0
    assert rows(database, "events") == there["events"]


def test_the_plan_changes_nothing_and_says_what_apply_does(database: Database):
    fill(database)
    before = {name: form(database, name) for name in NAMES}
    planned = run(database, "plan")
    assert planned.exit_code == 0, planned.output
    assert {name: form(database, name) for name in NAMES} == before
    for name in NAMES:
        assert f"{name}: one table, " in planned.output
    assert "alter table payments rename to payments_until_" in planned.output
    done = run(database, "apply", *NAMES)
    assert done.exit_code == 0, done.output
    month = month_of(datetime.now(UTC) + timedelta(days=7))
    ahead = label(next_month(month))
    assert f"  create table jobs_{ahead} (like" in planned.output
    assert f"made jobs_{ahead}" in done.output
    again = run(database, "apply", *NAMES)
    assert again.output.splitlines() == [f"{name} is partitioned" for name in NAMES]
    shown = run(database, "plan", "jobs")
    assert "jobs: by month, " in shown.output
    assert f"  jobs_{ahead} " in shown.output
    assert run(database, "apply").exit_code == 2
