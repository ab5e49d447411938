"""At 72,000 payments: every sort and every equality filter has its index, and totals stay cheap and honest."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2.extensions
import pytest
from flask import Flask
from sqlalchemy import event, make_url

from api.app import create_app
from dues.payments.reads import payments
from dues.postgres import db
from dues.postgres.connection import _numbered
from dues.reads import Equal
from dues.reads.compile import COUNTED_ROWS
from dues.reads.estimates import Estimates
from tests.factory import Factory
from tests.servers import Direct, Servers, create_database, drop_database

pytestmark = pytest.mark.one_server("the plans are of one server")

ROWS = 72_000
# Every fourth is in the store that is read; the others are spread over a hundred.
OURS = ROWS // 4
SIZE = 20
SORTS = [sign + name for name in payments.sorts for sign in ("", "-")]
FILTERS = [name for name, declared in payments.filters.items() if isinstance(declared, Equal)]

_OTHERS = """
    insert into users(id, email, name, password_hash)
        select gen_random_uuid(), n || '@example.com', 'User', '' from generate_series(1, 200) n;
    insert into stores(id, owner_id, name, slug, currency)
        select gen_random_uuid(), (select owner_id from stores), 'Store', 'other-' || n, 'EUR'
        from generate_series(1, 100) n;
    insert into packages(store_id, id, name, amount, currency, interval)
        select id, gen_random_uuid(), 'Package', 100, 'EUR', 'month' from stores, generate_series(1, 5);
"""
# To check what ties the rows together, and to note each as a change, would take most of the time.
_PAYMENTS = """
    alter table payments disable trigger payments_sync_note;
    alter table payments drop constraint payments_store_id_fkey, drop constraint payments_user_id_fkey,
        drop constraint payments_store_id_package_id_fkey;
    insert into payments(store_id, id, user_id, package_id, subscription_id, amount, currency, status, payment_method,
        gateway, created_at)
    select s.id, gen_random_uuid(), u.ids[1 + (n / 4) %% cardinality(u.ids)],
        case when n %% 3 = 0 then s.packages[1 + (n / 12) %% 5] end,
        case when n %% 3 = 0 then md5((n / 12 %% 100)::text)::uuid end, 100 + (n::bigint * 7919) %% 10000,
        (array['EUR', 'EUR', 'EUR', 'USD'])[1 + (n / 4) %% 4],
        (array['succeeded', 'succeeded', 'succeeded', 'failed', 'refunded'])[1 + (n / 4) %% 5],
        'sandbox_ok', 'sandbox', '2026-01-01'::timestamptz + n * interval '1 minute'
    from generate_series(1, %(rows)s) n
    join (select s.id, array_agg(k.id) as packages,
              case when s.id = %(store)s then 0 else row_number() over (order by s.id = %(store)s, s.id) end as number
          from stores s join packages k on k.store_id = s.id group by s.id) s
        on s.number = case when n %% 4 = 0 then 0 else 1 + n %% 100 end,
    (select array_agg(id) as ids from users) u
    -- Whatever order a join gives them, they lie store by store: the cost of an index depends on that.
    order by s.number, n;
"""


class Large:
    """A store among many, read by its owner, and the statements that this takes."""

    def __init__(self, app: Flask, direct: Direct) -> None:
        self._app, self._direct = app, direct
        self._seen: list[tuple[str, Mapping[str, Any]]] = []
        make = Factory(direct)
        owner = make.user()
        store = make.store(owner)
        make.rows(_OTHERS)
        make.rows(_PAYMENTS, {"rows": ROWS, "store": store.id})
        make.rows("vacuum analyze payments")
        make.rows("analyze")
        self.path, self._headers = f"/v1/stores/{store.id}/payments", make.auth(owner)
        self.some = make.rows(f"select * from payments where store_id = '{store.id}' and package_id is not null")[0]
        # By month, what a filter leaves may be fetched together and sorted, where that is little.
        is_by_month = make.value("select exists (select from pg_inherits where inhparent = 'payments'::regclass)")
        self.leeway = ROWS // 50 if is_by_month else 0
        with app.app_context():
            event.listen(db.engine, "connect", self._watch)

    def _watch(self, connection: Any, record: Any) -> None:
        seen = self._seen

        class Watched(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002
                seen.append((query, vars))
                super().execute(query, vars)

        connection.cursor_factory = Watched

    def get(self, path: str = "", **parameters: Any) -> dict[str, Any]:
        """The list's answer; its statement is then the last that was seen."""
        query = parameters or None
        answer = self._app.test_client().get(path or self.path, query_string=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.get_json()
        return document

    def plans(self) -> Iterator[dict[str, Any]]:
        """How PostgreSQL ran the last list: with its values known, and prepared for any values."""
        query, values = self._seen[-1]
        text, arguments = _numbered(query)
        with self._direct.cursor() as cursor:
            cursor.execute(f"explain (analyze, format json) {query}", values)
            yield cursor.fetchone()["QUERY PLAN"][0]["Plan"]  # type: ignore[index]
            cursor.execute("set plan_cache_mode = force_generic_plan")
            escaped = text.replace("%", "%%")
            cursor.execute(f"prepare p as {escaped}; explain (analyze, format json) execute p{arguments}", values)
            yield cursor.fetchone()["QUERY PLAN"][0]["Plan"]  # type: ignore[index]
            cursor.execute("deallocate p; reset plan_cache_mode")


@pytest.fixture(scope="module")
def large(servers: Servers) -> Iterator[Large]:
    template = make_url(os.environ["DUES_TESTS_TEMPLATE"]).database or ""
    url = make_url(servers.database_url)
    name = f"{url.database}_large"
    create_database(servers.database_url, name, template)
    address = url.set(database=name).render_as_string(hide_password=False)
    direct, app = Direct(address), create_app(servers.settings(database_url=address, db_prepare=False))
    yield Large(app, direct)
    direct.close()
    with app.app_context():
        db.engine.dispose()
    drop_database(servers.database_url, name)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes that read payments. Of months, it is that in which these are, after all others by their random ids: one
    that is empty or has few may be read whole."""
    return [node for node in nodes(plan) if node.get("Relation Name") in ("payments", "payments_later")]


def rows_read(plan: dict[str, Any]) -> float:
    """How many rows of payments were looked at, those that a filter then dropped too."""
    return sum(
        float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in scans(plan)
    )


def forms(large: Large, **asked: Any) -> Iterator[tuple[str, float]]:
    """Asks for a list in each form of page. Yields: which, and how many payments may be read for it."""
    counted = COUNTED_ROWS + 1
    large.get(page=1, per_page=SIZE, **asked)
    yield "page 1", SIZE + 1 + counted
    large.get(page=100, per_page=SIZE, **asked)
    yield "page 100", 100 * SIZE + 1 + counted
    document = large.get(cursor="", limit=SIZE, **asked)
    yield "cursor, first", SIZE + 1
    document = large.get(document["links"]["next"])
    # And one on the other side of the cursor, to know whether there is any.
    yield "cursor, next", SIZE + 2
    large.get(document["links"]["prev"])
    yield "cursor, prev", SIZE + 2


@pytest.mark.parametrize("asked", [{"sort": sort} for sort in SORTS] + [{"filter": name} for name in FILTERS], ids=str)
def test_no_list_scans_the_table(large: Large, asked: dict[str, str]) -> None:
    if name := asked.get("filter"):
        asked = {name: str(getattr(large.some, name))}
    for form, most in forms(large, **asked):
        for plan in large.plans():
            assert scans(plan), form
            assert {node["Node Type"] for node in scans(plan)} <= {
                "Index Scan",
                "Index Only Scan",
                "Bitmap Heap Scan",
            }, form
            assert rows_read(plan) <= most + large.leeway, form


def test_ones_own_payments_over_all_stores(large: Large) -> None:
    large.get("/v1/me/payments")
    for plan in large.plans():
        assert {node["Node Type"] for node in scans(plan)} <= {"Index Scan", "Index Only Scan"}


def test_a_deep_walk_reads_no_more_than_its_first_step(large: Large) -> None:
    """The last page backwards from the end: a cursor costs the same at any depth."""
    document = large.get(sort="created_at", cursor="", limit=SIZE)
    assert len(document["data"]) == SIZE
    oldest_last = large.get(sort="-created_at", page=OURS // 100 - 1, per_page=100)
    assert len(oldest_last["data"]) == 100
    document = large.get(**{"sort": "-created_at", "created_at[lt]": document["data"][-1]["created_at"]}, cursor="")
    assert len(document["data"]) == SIZE - 1
    for plan in large.plans():
        assert rows_read(plan) <= SIZE + 1 + large.leeway


def test_totals_beyond_the_bound_are_estimates_and_honest(large: Large) -> None:
    meta = large.get(per_page=100)["meta"]
    assert meta["total_is_exact"] is False
    assert OURS * 0.5 < meta["total"] < OURS * 2
    assert meta["last_page"] == -(-meta["total"] // 100)

    meta = large.get(per_page=100, total="exact")["meta"]
    assert (meta["total"], meta["total_is_exact"], meta["last_page"]) == (OURS, True, OURS // 100)

    last = large.get(per_page=100, page=OURS // 100)
    assert last["meta"] == {
        "current_page": OURS // 100,
        "last_page": OURS // 100,
        "per_page": 100,
        "total": OURS,
        "total_is_exact": True,
    }
    assert last["links"]["next"] is None

    beyond = large.get(per_page=100, page=OURS // 100 + 1)
    assert beyond["data"] == []
    assert beyond["meta"]["last_page"] <= OURS // 100 + 1
    assert beyond["meta"]["total"] <= OURS


@contextlib.contextmanager
def planner_that_says(large: Large, row_estimate: int) -> Iterator[None]:
    make = Factory(large._direct)
    source = make.value("select prosrc from pg_proc where proname = 'dues_estimated_rows'")
    replace = "create or replace function dues_estimated_rows(query text) returns bigint language plpgsql stable as "
    make.rows(f"{replace} 'begin return {row_estimate}; end'")
    try:
        yield
    finally:
        make.rows(f"{replace} $${source}$$")


def test_an_estimate_is_asked_for_once_in_some_seconds(large: Large, monkeypatch: pytest.MonkeyPatch) -> None:
    """To plan a query takes longer than a page does where a table has many partitions."""
    now = 1000.0
    monkeypatch.setattr("dues.reads.serve._estimates", Estimates(lambda: now))
    with planner_that_says(large, 77_000):
        assert large.get(per_page=90)["meta"]["total"] == 77_000
    with planner_that_says(large, 88_000):
        now += 9
        assert large.get(per_page=90, page=2)["meta"]["total"] == 77_000
        now += 2
        assert large.get(per_page=90, page=3)["meta"]["total"] == 88_000
        assert large.get(per_page=90, status="succeeded")["meta"]["total"] == 88_000


@pytest.mark.parametrize("row_estimate", [1, 10_000_000])
def test_a_loop_ends_at_the_last_row_however_wrong_the_planner_is(
    large: Large, row_estimate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's loop asks for the next page while `current_page < last_page`."""
    monkeypatch.setattr("dues.reads.serve._estimates", Estimates())
    with planner_that_says(large, row_estimate):
        last = OURS // 100
        for page in (1, 2, 100, 101, last - 1, last, last + 1, last + 7):
            document = large.get(page=page, per_page=100)
            meta = document["meta"]
            assert (meta["current_page"] < meta["last_page"]) == (page < last), page
            assert (document["links"]["next"] is not None) == (page < last), page
            assert len(document["data"]) == (100 if page <= last else 0)
            assert meta["total"] >= min(page * 100, OURS) if page <= last else meta["total"] >= 0


def test_a_total_within_the_bound_is_exact(large: Large) -> None:
    wanted = str(large.some.user_id)
    meta = large.get(user_id=wanted)["meta"]
    assert meta["total_is_exact"] is True
    expected = Factory(large._direct).value(
        "select count(*) from payments where user_id = %(user)s and store_id = %(store)s",
        {"user": wanted, "store": large.some.store_id},
    )
    assert meta["total"] == expected
