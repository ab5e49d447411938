"""Months are made ahead and dropped when they are over; no row is refused for its id."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dues.app import create_base
from dues.ids import new_id
from dues.jobs import kinds
from dues.partitions.conversion import convert
from dues.partitions.months import floor_id, label, months_from, next_month
from dues.partitions.tables import BY_NAME
from dues.partitions.upkeep import MONTHS_AHEAD, empty_old, keep_partitions, make_ahead
from dues.postgres import db
from dues.postgres.changing import Session, changing
from tests.jobs.conftest import Jobs, in_app, jobs
from tests.partitions.conftest import Database, id_at
from tests.servers import Servers
from tests.workers.test_housekeeping import keep_house
from workers.job import HANDLERS

__all__ = ["in_app", "jobs"]

MAY = datetime(2026, 5, 1, tzinfo=UTC)
JOBS = BY_NAME["jobs"]


def job(database: Database, job_id: UUID, **columns: Any) -> None:
    database.make.insert("jobs", {"id": job_id, "kind": "test.quick", "queue": "default", **columns})


def done(at: datetime) -> dict[str, Any]:
    return {"status": "succeeded", "finished_at": at}


@pytest.fixture
def by_month(database: Database) -> Database:
    """Jobs from May on: what was there before lies in one partition, which ends with April."""
    database.convert("jobs", MAY - timedelta(days=20))
    return database


def test_months_are_made_ahead_once(by_month: Database, session: Session):
    make_ahead(session, JOBS, MAY)
    made = ["jobs_2026_05", "jobs_2026_06", "jobs_2026_07", "jobs_later", "jobs_until_2026_05"]
    assert by_month.parts("jobs") == made
    make_ahead(session, JOBS, MAY + timedelta(days=30))
    assert by_month.parts("jobs") == made
    make_ahead(session, JOBS, datetime(2026, 11, 26, tzinfo=UTC))
    assert set(by_month.parts("jobs")) - set(made) == {
        f"jobs_{month}" for month in ("2026_08", "2026_09", "2026_10", "2026_11", "2026_12", "2027_01")
    }


def test_where_a_month_begins_and_what_lies_in_none(by_month: Database, session: Session):
    make_ahead(session, JOBS, MAY)
    june = next_month(MAY)
    placed = {
        id_at(MAY - timedelta(days=4000)): "jobs_until_2026_05",
        id_at(MAY - timedelta(milliseconds=1)): "jobs_until_2026_05",
        id_at(MAY): "jobs_2026_05",
        # A machine whose clock is some minutes slow when the month begins, and one whose clock is fast.
        id_at(june - timedelta(minutes=7)): "jobs_2026_05",
        id_at(june + timedelta(minutes=7)): "jobs_2026_06",
        id_at(datetime(2026, 8, 1, tzinfo=UTC) - timedelta(milliseconds=1)): "jobs_2026_07",
        id_at(datetime(2026, 8, 1, tzinfo=UTC)): "jobs_later",
        UUID("ffffffff-ffff-4fff-bfff-ffffffffffff"): "jobs_later",
        UUID("00000000-0000-4000-8000-000000000000"): "jobs_until_2026_05",
    }
    for job_id in placed:
        job(by_month, job_id)
    assert by_month.placed("jobs") == placed
    for job_id in placed:
        by_month.make.rows(
            "update jobs set status = 'succeeded', finished_at = now() where id = %(id)s", {"id": job_id}
        )
        assert by_month.make.value("select status from jobs where id = %(id)s", {"id": job_id}) == "succeeded"


def test_months_without_their_partitions_become_one_when_the_housekeeping_is_back(by_month: Database, session: Session):
    late = datetime(2026, 9, 15, tzinfo=UTC)
    ids = [id_at(moment) for moment in (MAY, MAY + timedelta(days=40), late)]
    for job_id in ids:
        job(by_month, job_id, dedupe_key=str(job_id))
    make_ahead(session, JOBS, late)
    parts = ["jobs_2026_05", "jobs_2026_10", "jobs_2026_11", "jobs_later", "jobs_until_2026_05"]
    assert by_month.parts("jobs") == parts
    assert by_month.placed("jobs") == dict.fromkeys(ids, "jobs_2026_05")
    job(by_month, id_at(late, 2))
    assert by_month.placed("jobs")[id_at(late, 2)] == "jobs_2026_05"
    assert by_month.make.value("select count(*) from jobs_live_keys") == 3
    make_ahead(session, JOBS, late)
    assert by_month.parts("jobs") == parts


def test_a_check_that_was_left_on_the_last_partition_is_removed(by_month: Database, session: Session):
    by_month.make.rows(
        "alter table jobs_later add constraint jobs_partition_bound check (id < gen_random_uuid()); select 1 as one"
    )
    make_ahead(session, JOBS, MAY - timedelta(days=20))
    left = "select count(*) from pg_constraint where conname = 'jobs_partition_bound'"
    assert by_month.make.value(left) == 0


def test_a_row_from_the_future_keeps_its_month_from_being_made_until_it_is_near(
    by_month: Database, session: Session, caplog: pytest.LogCaptureFixture
):
    """The clock of a machine was fast by months."""
    stray = id_at(datetime(2026, 7, 9, tzinfo=UTC))
    job(by_month, stray)
    make_ahead(session, JOBS, MAY)
    assert by_month.parts("jobs") == ["jobs_2026_05", "jobs_2026_06", "jobs_later", "jobs_until_2026_05"]
    assert "jobs_later has rows from the future" in caplog.text
    make_ahead(session, JOBS, datetime(2026, 6, 26, tzinfo=UTC))
    assert {"jobs_2026_07", "jobs_2026_08"} <= set(by_month.parts("jobs"))
    assert by_month.placed("jobs") == {stray: "jobs_2026_07"}


def test_payments_that_others_refer_to_stay_where_they_are(
    database: Database, session: Session, caplog: pytest.LogCaptureFixture
):
    payments, make = BY_NAME["payments"], database.make
    convert(session, payments, MAY - timedelta(days=20))
    make.refund(make.payment(make.store(), id=id_at(datetime(2026, 9, 1, tzinfo=UTC))))
    make_ahead(session, payments, MAY)
    parts = database.parts("payments")
    make_ahead(session, payments, datetime(2026, 9, 15, tzinfo=UTC))
    assert "payments_later keeps its rows, and no months are cut from it" in caplog.text
    assert database.parts("payments") == parts
    assert len(database.placed("payments")) == 1
    assert make.payment(make.store()).status == "succeeded"


def test_a_month_is_emptied_once_all_of_it_is_older_than_is_kept(by_month: Database, session: Session):
    make_ahead(session, JOBS, MAY)
    config = by_month.settings()
    june, july = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    for moment in (MAY - timedelta(days=9), MAY, MAY + timedelta(days=29)):
        job(by_month, id_at(moment), **done(moment))
    assert empty_old(session, JOBS, config, june) == 1
    # The last of May is kept for thirty days.
    assert empty_old(session, JOBS, config, july - timedelta(seconds=1)) == 0
    assert set(by_month.placed("jobs").values()) == {"jobs_2026_05"}
    assert empty_old(session, JOBS, config, july) == 1
    assert by_month.parts("jobs") == ["jobs_2026_06", "jobs_2026_07", "jobs_later", "jobs_until_2026_06"]
    assert empty_old(session, JOBS, config, july) == 0
    # What was made long ago all the same, on a machine whose clock is wrong, has a place.
    job(by_month, id_at(MAY))
    assert by_month.placed("jobs") == {id_at(MAY): "jobs_until_2026_06"}


def test_no_month_is_emptied_while_a_store_moves(by_month: Database, session: Session):
    """Triggers keep its rows from being written one by one; a month would go past them."""
    make_ahead(session, JOBS, MAY)
    job(by_month, id_at(MAY), **done(MAY))
    july = datetime(2026, 7, 1, tzinfo=UTC)
    for state in ("holding", "copying", "switching"):
        by_month.make.insert("store_moves", {"store_id": new_id(), "id": new_id(), "state": state})
        assert empty_old(session, JOBS, by_month.settings(), july) == 0, state
        assert len(by_month.placed("jobs")) == 1, state
        by_month.make.rows("delete from store_moves")
    for state in ("gone", "here"):
        by_month.make.insert("store_moves", {"store_id": new_id(), "id": new_id(), "state": state})
    assert empty_old(session, JOBS, by_month.settings(), july) == 1
    assert by_month.placed("jobs") == {}


def test_a_month_with_a_row_that_is_kept_stays_until_it_may_go(by_month: Database, session: Session):
    make_ahead(session, JOBS, MAY)
    job(by_month, id_at(MAY))
    job(by_month, id_at(MAY + timedelta(days=40)), **done(MAY + timedelta(days=40)))
    now = datetime(2026, 9, 1, tzinfo=UTC)
    assert empty_old(session, JOBS, by_month.settings(), now) == 1
    assert by_month.placed("jobs") == {id_at(MAY): "jobs_2026_05"}
    for state in (
        "due = false, run_at = '2027-01-01'",
        "due = false, status = 'succeeded', finished_at = '2026-08-20'",
    ):
        by_month.make.rows(f"update jobs set {state}; select 1 as one")
        assert empty_old(session, JOBS, by_month.settings(), now) == 0, state
        assert by_month.placed("jobs") == {id_at(MAY): "jobs_2026_05"}, state
    by_month.make.rows("update jobs set status = 'succeeded', finished_at = '2026-07-01'; select 1 as one")
    assert empty_old(session, JOBS, by_month.settings(), now) == 1
    assert by_month.parts("jobs") == ["jobs_later", "jobs_until_2026_08"]


def test_events_stay_while_one_of_them_is_on_its_way(database: Database, session: Session):
    make, store = database.make, database.make.store()
    endpoint = make.endpoint(store)
    for table in ("events", "webhook_deliveries"):
        convert(session, BY_NAME[table], MAY - timedelta(days=20))
        make_ahead(session, BY_NAME[table], MAY)
    old = {"created_at": MAY}
    event = make.event(store, id=id_at(MAY), **old)
    make.delivery(endpoint, event, id=id_at(MAY), **old)
    asked = make.delivery(endpoint, event, status="pending")
    emptied = [
        empty_old(session, BY_NAME[table], database.settings(), datetime.now(UTC))
        for table in ("webhook_deliveries", "events")
    ]
    assert emptied == [1, 0]
    assert make.value("select count(*) from events") == 1
    make.rows("update webhook_deliveries set status = 'failed' where id = %(id)s", {"id": asked.id})
    assert empty_old(session, BY_NAME["events"], database.settings(), datetime.now(UTC)) == 1


def test_a_delivery_of_a_long_replay_is_kept_by_its_own_time(database: Database, session: Session):
    deliveries, make = BY_NAME["webhook_deliveries"], database.make
    convert(session, deliveries, MAY - timedelta(days=20))
    make_ahead(session, deliveries, MAY)
    store = make.store()
    endpoint, event = make.endpoint(store), make.event(store)
    make.delivery(endpoint, event, id=id_at(MAY + timedelta(days=30)), created_at=datetime(2026, 6, 20, tzinfo=UTC))
    config = database.settings(keep_events_days=30)
    assert empty_old(session, deliveries, config, datetime(2026, 7, 2, tzinfo=UTC)) == 0
    assert empty_old(session, deliveries, config, datetime(2026, 7, 21, tzinfo=UTC)) == 1


def test_foreign_keys_are_there_once_however_often_months_are_made(database: Database, session: Session):
    payments = BY_NAME["payments"]
    convert(session, payments, MAY - timedelta(days=20))
    keys = "select count(*) from pg_constraint where contype = 'f' and conrelid = 'payments_later'::regclass"
    before = database.make.value(keys)
    make_ahead(session, payments, MAY)
    make_ahead(session, payments, MAY + timedelta(days=90))
    assert database.make.value(keys) == before == database.make.value(keys.replace("payments_later", "payments"))


def test_the_present_month_is_never_dropped(database: Database, session: Session):
    config = database.settings(keep_jobs_days=1)
    for table in BY_NAME.values():
        convert(session, table, datetime.now(UTC))
    job(database, new_id(), **done(datetime.now(UTC) - timedelta(days=9)))
    assert keep_partitions(session, config) == 0
    upper = max(months_from(datetime.now(UTC), MONTHS_AHEAD))
    assert floor_id(upper) > new_id()
    assert len(database.placed("jobs")) == 1


def test_the_housekeeping_sees_to_it(by_month: Database):
    for moment in (MAY - timedelta(days=9), datetime.now(UTC)):
        job(by_month, id_at(moment), **done(moment))
    app = create_base(by_month.settings())
    with app.app_context():
        assert HANDLERS[kinds.FORGET_PARTITIONS.name].handler(None) == {"forgotten": 1}
        db.engine.dispose()
    [part] = by_month.placed("jobs").values()
    # With all that was written before there were months ahead.
    assert part == f"jobs_{label(datetime.now(UTC))}"
    assert f"jobs_{label(next_month(next_month(datetime.now(UTC).replace(day=1))))}" in by_month.parts("jobs")


def test_the_housekeeping_leaves_it_for_an_hour_while_a_migration_is_under_way(jobs: Jobs, servers: Servers):
    with changing(servers.settings()):
        assert keep_house(jobs, kinds.FORGET_PARTITIONS) == 0
