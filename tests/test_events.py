"""Events: numbered without a gap, in the transaction of what happened, at little cost to it."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import ujson
from flask import Flask
from psycopg2.errors import NotNullViolation
from sqlalchemy import text

from dues.clock import now
from dues.events import EVENT_TYPES, MAX_DATA_BYTES, emit, emit_deletion
from dues.ids import new_id
from dues.jobs import Ending
from dues.packages.models import Package
from dues.packages.reads import packages
from dues.packages.service import NewPackage, archive_package, create_package, get_package
from dues.postgres import db, transaction
from dues.reports.build import BuiltFile
from dues.reports.reads import reports
from dues.reports.service import NewReport, end_report, finish_report, request_report, start_report
from dues.webhooks.reads import SHOWN
from tests.factory import Factory
from tests.recorder import QueryRecorder

GOLD = NewPackage(name="Gold", amount=1500, interval="month")


@pytest.fixture(autouse=True)
def context(app: Flask):
    with app.app_context():
        yield
        db.session.remove()


def events_of(make: Factory, store: Any) -> list[Any]:
    return make.rows(
        "select seq, id, type, data, created_at from events where store_id = %(id)s order by seq", {"id": store.id}
    )


def jobs(make: Factory) -> list[Any]:
    return make.rows("select kind, args, queue, store_id from jobs where kind = 'webhook.fan_out' order by id")


def test_an_event_shows_the_row_as_it_is_committed(client, make: Factory):
    store = make.store()
    with transaction():
        package_id = create_package(store.id, GOLD)
        get_package(store.id, package_id).description = "All halls"
    [event] = events_of(make, store)
    assert (event.seq, event.type) == (1, "package.created")
    shown = client.get(f"/v1/stores/{store.id}/packages/{package_id}").json
    assert event.data == shown
    assert shown["description"] == "All halls"


def test_what_is_rolled_back_leaves_neither_an_event_nor_a_gap(make: Factory):
    store = make.store()
    for broken in (True, False):
        with suppress(ZeroDivisionError), transaction():
            create_package(store.id, GOLD)
            if broken:
                raise ZeroDivisionError
    assert [event.seq for event in events_of(make, store)] == [1]


def test_an_event_needs_a_unit_of_work_and_a_row(make: Factory):
    store = make.store()
    scope = {"store_id": store.id, "id": store.id}
    with pytest.raises(RuntimeError, match="transaction"):
        emit(store.id, "package.created", packages, scope)
    with pytest.raises(NotNullViolation, match='"data" of relation "events"'), transaction():
        emit(store.id, "package.created", packages, scope)
    assert events_of(make, store) == []
    assert make.rows("select 1 from event_streams") == []


def test_numbers_have_no_gap_under_threads_that_roll_back(app: Flask, make: Factory):
    stores = [make.store() for _ in range(2)]
    committed: dict[UUID, int] = {store.id: 0 for store in stores}

    def write(seed: int) -> list[UUID]:
        dice, done = random.Random(seed), []
        with app.app_context():
            for _ in range(25):
                chosen = dice.sample(stores, dice.choice((1, 2)))
                try:
                    with transaction():
                        for store in chosen:
                            create_package(store.id, GOLD)
                        if dice.random() < 0.3:
                            raise ZeroDivisionError
                        if dice.random() < 0.2:
                            # Fails after the numbers of one store were taken.
                            emit(max(stores, key=lambda s: s.id).id, "package.created", packages, {"id": stores[0].id})
                            chosen = []
                except (ZeroDivisionError, NotNullViolation):
                    continue
                done += [store.id for store in chosen]
        return done

    with ThreadPoolExecutor(8) as pool:
        for done in pool.map(write, range(8)):
            for store_id in done:
                committed[store_id] += 1
    for store in stores:
        events = events_of(make, store)
        assert committed[store.id] > 20
        assert [event.seq for event in events] == list(range(1, committed[store.id] + 1))
        assert [event.created_at for event in events] == sorted(event.created_at for event in events)


def test_events_cost_no_message_but_the_commits(make: Factory, queries: QueryRecorder):
    store = make.store()
    with queries() as seen, transaction() as session:
        create_package(store.id, GOLD)
        session.execute(text("select 1"))
        before = len(seen)
    ours = [message for message in seen[before:] if "event" in message]
    assert len(ours) == 1, str(seen)
    assert ours[0].endswith("; commit")
    assert jobs(make) == [], "nobody listens"


def test_where_somebody_listens_all_events_of_a_transaction_are_one_job(make: Factory):
    store, other = make.store(), make.store()
    make.endpoint(store)
    with transaction():
        package_id = create_package(store.id, GOLD)
        create_package(store.id, GOLD)
        create_package(other.id, GOLD)
        archive_package(get_package(store.id, package_id))
    [job] = jobs(make)
    assert (job.queue, job.store_id) == ("events", store.id)
    assert job.args == {"store_id": str(store.id), "first": 1, "last": 3}


def test_a_number_is_taken_with_the_commit_and_not_before(app: Flask, make: Factory):
    """A long unit of work keeps no other of the same store waiting."""
    store = make.store()

    def overtake() -> UUID:
        with app.app_context(), transaction():
            return create_package(store.id, GOLD)

    with ThreadPoolExecutor(1) as pool, transaction() as session:
        slow = create_package(store.id, GOLD)
        session.execute(text("select 1"))
        quick = pool.submit(overtake).result(10)
    assert [event.data["id"] for event in events_of(make, store)] == [str(quick), str(slow)]


def test_the_events_of_a_transaction_are_written_in_one_message(make: Factory, queries: QueryRecorder):
    store = make.store()
    with queries() as sent:
        with transaction():
            for _ in range(50):
                create_package(store.id, GOLD)
        assert len(sent) < 10, str(sent)
    assert [event.seq for event in events_of(make, store)] == list(range(1, 51))


def test_events_of_several_kinds_are_one_statement_and_keep_their_order(make: Factory):
    """Of rows that are read by statements of their own, of rows that will be gone, and of two stores."""
    store, other = make.store(), make.store()
    new = NewReport(kind="revenue", format="csv", range_from=datetime(2026, 1, 1, tzinfo=UTC), range_to=now())
    with transaction() as session:
        reports_made = [request_report(store.id, store.owner_id, new) for _ in range(2)]
        session.flush()
        first, second = create_package(store.id, GOLD), create_package(store.id, GOLD)
        elsewhere = create_package(other.id, GOLD)
        emit(store.id, "report.failed", reports, {"store_id": store.id, "id": reports_made[0].id})
        emit_deletion(store.id, "package.archived", packages, {"store_id": store.id, "id": first})
        emit(store.id, "report.failed", reports, {"store_id": store.id, "id": reports_made[1].id})
        emit(store.id, "package.updated", packages, {"store_id": store.id, "id": second})
    told = events_of(make, store)
    assert [(event.seq, event.type, event.data["id"]) for event in told] == [
        (1, "package.created", str(first)),
        (2, "package.created", str(second)),
        (3, "report.failed", str(reports_made[0].id)),
        (4, "package.archived", str(first)),
        (5, "report.failed", str(reports_made[1].id)),
        (6, "package.updated", str(second)),
    ]
    assert [event.id for event in told] == sorted(event.id for event in told)
    assert len({event.created_at for event in told}) == 1
    assert [event.data["id"] for event in events_of(make, other)] == [str(elsewhere)]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_an_event_of_what_is_not_there_fails_the_whole(make: Factory, missing: int):
    store = make.store()

    @transaction()
    def write() -> None:
        for place in range(3):
            create_package(store.id, GOLD)
            if place == missing:
                emit(store.id, "package.archived", packages, {"store_id": store.id, "id": new_id()})

    with pytest.raises(NotNullViolation, match='"data" of relation "events"'):
        write()
    assert events_of(make, store) == []


@pytest.mark.parametrize("others", [0, 2])
def test_an_event_is_never_larger_than_promised(make: Factory, others: int):
    store = make.store()
    description = "\u0001" * 5000
    with transaction():
        for _ in range(others):
            create_package(store.id, GOLD)
        large = NewPackage(name="Gold", amount=1, interval="once", description=description)
        package_id = create_package(store.id, large)
        for _ in range(others):
            create_package(store.id, GOLD)
    events = events_of(make, store)
    assert [event.data.get("name") for event in events] == [*["Gold"] * others, None, *["Gold"] * others]
    event = events[others]
    assert event.data == {
        "id": str(package_id),
        "links": {"self": f"/v1/stores/{store.id}/packages/{package_id}"},
    }
    assert len(ujson.dumps(event.data)) < MAX_DATA_BYTES


def test_changes_that_change_nothing_are_no_events(make: Factory):
    store = make.store()
    package = make.package(store)
    for _ in range(2):
        with transaction():
            archive_package(get_package(store.id, package.id))
    assert [event.type for event in events_of(make, store)] == ["package.archived"]


def test_a_report_is_told_when_it_ends(make: Factory):
    store = make.store()
    new = NewReport(kind="revenue", format="csv", range_from=datetime(2026, 1, 1, tzinfo=UTC), range_to=now())
    for end in ("succeeded", "failed", "canceled"):
        with transaction():
            report = request_report(store.id, store.owner_id, new)
        with transaction():
            start_report(store.id, report.id)
        with transaction():
            if end == "succeeded":
                finish_report(report, BuiltFile("reports/x/1", "text/csv", 1, 10, "00"))
            else:
                args = {"store_id": str(store.id), "report_id": str(report.id)}
                end_report(Ending(new_id(), "report.build", args, "failed" if end == "failed" else "canceled", None))
    told = [(event.type, event.data["status"]) for event in events_of(make, store)]
    assert told == [(f"report.{end}", end) for end in ("succeeded", "failed", "canceled")]


def test_every_type_is_about_a_resource():
    assert set(SHOWN) == set(EVENT_TYPES)
    assert SHOWN["package.created"].model is Package
