"""What is read of tables by month: one row, or a page, touches the months that it is in and no others."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any

import psycopg2.extensions
import pytest
from flask import Flask
from sqlalchemy import event

from api.app import create_app
from dues.jobs.lease import _KNOWN
from dues.partitions.conversion import convert
from dues.partitions.months import label, month_of, months_from
from dues.partitions.rows import one_by_one
from dues.partitions.tables import BY_NAME
from dues.partitions.upkeep import make_ahead
from dues.postgres import db, transaction
from dues.postgres.changing import changing
from dues.postgres.connection import _numbered
from dues.retention import _JOBS
from dues.webhooks.deliveries import _LOAD
from tests.partitions.conftest import Database, id_at

pytestmark = pytest.mark.slow

# The last twelve months or so.
FIRST = month_of(datetime.now(UTC) - timedelta(days=340))
MONTHS = list(months_from(FIRST, 12))
EVERY = 5
ROWS = 340 // EVERY
PARTITIONED = ("payments", "jobs", "events", "webhook_deliveries")


class Shop:
    """A store with a payment, an event, its delivery and a job every five days of a year, and its owner."""

    def __init__(self, database: Database, app: Flask) -> None:
        self.database, self.app, self.make = database, app, database.make
        self.owner = self.make.user()
        self.store = self.make.store(self.owner)
        self.endpoint = self.make.endpoint(self.store)
        self._auth = self.make.auth(self.owner)
        self.seen: list[tuple[str, Mapping[str, Any]]] = []
        with changing(database.settings()) as session:
            for name in PARTITIONED:
                convert(session, BY_NAME[name], FIRST - timedelta(days=20))
                make_ahead(session, BY_NAME[name], MONTHS[-1])
        for number in range(ROWS):
            self._a_day(number, FIRST + number * timedelta(days=EVERY))
        self.make.rows("analyze; select 1 as one")
        with app.app_context():
            event.listen(db.engine, "connect", self._watch)

    def _a_day(self, number: int, at: datetime) -> None:
        named: dict[str, Any] = {"id": id_at(at, number), "created_at": at}
        self.make.payment(self.store, self.owner, **named)
        happened = self.make.event(self.store, **named)
        self.make.delivery(self.endpoint, happened, **named)
        ended = {"status": "succeeded", "finished_at": at, "owner_id": self.owner.id}
        self.make.insert("jobs", {"kind": "test.quick", "queue": "default", **ended, **named})

    def _watch(self, connection: Any, record: Any) -> None:
        seen = self.seen

        class Watched(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002
                seen.append((query, vars))
                super().execute(query, vars)

        connection.cursor_factory = Watched

    def get(self, path: str) -> Any:
        answer = self.app.test_client().get(path, headers=self._auth)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def touched(self, table: str, query: str, values: Mapping[str, Any]) -> set[str]:
        """The partitions that are read, as the statement is prepared for any values."""
        text, arguments = _numbered(query)
        escaped = text.replace("%", "%%")
        explained = f"prepare p as {escaped}; explain (analyze, format json) execute p{arguments}"
        return self._touched(table, explained, values, "")

    def touched_alone(self, table: str, query: str, values: Mapping[str, Any], part: str) -> set[str]:
        """The same of a statement that is not prepared, by a part of its plan."""
        return self._touched(table, f"explain (analyze, format json) {query}", values, part)

    def _touched(self, table: str, explained: str, values: Mapping[str, Any], part: str) -> set[str]:
        with self.database.direct.cursor() as cursor:
            settings = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set jit = off"
            cursor.execute(f"{settings}; begin; {explained}", values)
            plan = cursor.fetchone()["QUERY PLAN"][0]["Plan"]  # type: ignore[index]
            cursor.execute("rollback; deallocate all")
        if part:
            plan = next(node for node in nodes(plan) if node.get("Subplan Name") == part)
        read = {node["Relation Name"] for node in nodes(plan) if node.get("Relation Name") and node["Actual Loops"]}
        return {name for name in read if name.startswith(f"{table}_")}

    def touched_by(self, path: str, table: str) -> set[str]:
        self.get(path)
        return self.touched(table, *self.seen[-1])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.fixture(scope="module")
def by_month(servers: Any) -> Iterator[Shop]:
    with closing(Database.made(servers)) as database:
        app = create_app(database.settings(db_prepare=False))
        yield Shop(database, app)
        with app.app_context():
            db.engine.dispose()


def test_one_payment_is_in_its_month(by_month: Shop):
    at = FIRST + timedelta(days=100)
    path = f"/v1/stores/{by_month.store.id}/payments/{id_at(at, 20)}"
    assert by_month.touched_by(path, "payments") == {f"payments_{label(at)}"}
    assert by_month.touched_by(f"{path}?include=refunds", "payments") == {f"payments_{label(at)}"}


@pytest.mark.parametrize("list_of", ["payments", "webhook-deliveries"])
def test_a_page_by_id_touches_two_months_at_any_depth(by_month: Shop, list_of: str):
    table = list_of.replace("-", "_")
    path = f"/v1/stores/{by_month.store.id}/{list_of}?sort=-id&limit=3&cursor="
    depths = []
    # The newest first, and so those ahead, which have no rows yet.
    last = FIRST + (ROWS - 1) * timedelta(days=EVERY)
    ahead = {name for name in by_month.database.parts(table) if name > f"{table}_{label(last)}"}
    while path:
        touched = by_month.touched_by(path, table) - ahead
        assert len(touched) <= 2
        depths.append(min(touched))
        path = by_month.get(path)["links"]["next"]
    assert depths[-1] < depths[0]


def test_a_page_by_time_begins_with_a_step_into_each_month(by_month: Shop):
    """Its time is the row's own, of which the id says nothing for sure: a test store's clock may be years ahead."""
    touched = by_month.touched_by(f"/v1/stores/{by_month.store.id}/payments?limit=2&cursor=", "payments")
    assert len(touched) == len(by_month.database.parts("payments"))


def test_a_delivery_finds_its_event_in_one_month(by_month: Shop):
    delivery = by_month.make.rows("select * from webhook_deliveries order by id limit 1 offset 30")[0]
    values = {"store_id": delivery.store_id, "delivery_id": delivery.id}
    assert len(by_month.touched("events", _LOAD, values)) == 1
    assert len(by_month.touched("webhook_deliveries", _LOAD, values)) == 1
    path = f"/v1/stores/{delivery.store_id}/webhook-deliveries/{delivery.id}?include=event"
    assert len(by_month.touched_by(path, "events")) == 1


def test_a_job_is_claimed_in_its_month(by_month: Shop):
    values = {"ids": [id_at(FIRST, 0)], "token": id_at(FIRST), "worker": "w", "lease_s": 15}
    assert by_month.touched("jobs", _KNOWN, values) <= {f"jobs_{label(FIRST)}"}


def test_rows_are_deleted_one_by_one_in_months_that_should_be_gone_and_outside_of_all(by_month: Shop):
    kept = timedelta(days=30)
    with by_month.app.app_context(), transaction():
        values = {"kept": kept, "most": 10, **one_by_one("jobs", kept)}
    now: Row = by_month.make.rows("select now() - interval '31 days' as past")[0]
    touched = by_month.touched_alone("jobs", _JOBS, values, "CTE old")
    assert f"jobs_{label(FIRST)}" in touched
    assert not {f"jobs_{label(month)}" for month in months_from(now.past, 3)} & touched
