"""Do tables by month cost lists anything, and what does it take to forget a month? The same rows as single tables and
by month, in two databases of one PostgreSQL; one client, nothing cached."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
from msgspec.structs import replace
from sqlalchemy import make_url

from bench.contest import DUES
from bench.data import Data, bare_servers, make_ready, unindexed
from bench.depth import median_ms, walk
from bench.report import Suite
from bench.rounds import Figure, Goal, interleave
from bench.servers import HOME, serving
from config import Settings
from dues.app import create_base
from dues.partitions.conversion import convert
from dues.partitions.months import months_from
from dues.partitions.session import changing
from dues.partitions.tables import BY_NAME
from dues.partitions.upkeep import empty_old, make_ahead
from dues.postgres import db, transaction
from dues.webhooks.retention import delete_expired_events

FIRST, MONTHS = datetime(2025, 1, 1, tzinfo=UTC), 24
_SPAN = timedelta(days=730)
_ONE, _BY_MONTH = "one table", "by month"
_PEOPLE = """
insert into users(id, email, name, password_hash, email_verified_at)
    select md5('user' || i)::uuid, 'user' || i || '@example.org', 'User Number ' || i, '', now()
    from generate_series(1, 20000) i;
insert into stores(id, owner_id, name, slug, currency)
    values (md5('store1')::uuid, md5('user1')::uuid, 'Store', 'store', 'EUR');
insert into store_staff(store_id, user_id, id, role)
    values (md5('store1')::uuid, md5('user1')::uuid, md5('staff')::uuid, 'owner');
insert into event_streams(store_id, last_seq) values (md5('store1')::uuid, %(rows)s);
"""
_ID = (
    "(lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5({what} || i::text), 1, 3)"
    " || '8' || substr(md5({what} || i::text), 4, 15))::uuid"
)
_TIMES = "generate_series(1, %(rows)s) i, lateral (select %(first)s + i * %(span)s::interval / %(rows)s as at) t"
_PAYMENTS = f"""
insert into payments(store_id, id, user_id, amount, currency, status, description, payment_method, gateway, created_at,
        updated_at)
    select md5('store1')::uuid, {_ID.format(what="'payment'")}, md5('user' || (1 + i %% 20000))::uuid, 500 + i %% 5000,
        'EUR', (array['succeeded', 'succeeded', 'succeeded', 'failed', 'refunded'])[1 + i %% 5],
        'Membership fee number ' || i, 'sandbox_ok', 'sandbox', at, at
    from {_TIMES}
"""
_EVENTS = f"""
insert into events(store_id, seq, id, type, data, created_at)
    select md5('store1')::uuid, i, {_ID.format(what="'event'")}, 'payment.succeeded',
        json_build_object('id', i, 'text', repeat('x', 400)), at
    from {_TIMES}
"""


def run(rounds: int, seconds: float, rows: int, depth: int) -> Suite:
    suite = Suite(
        "Tables by month",
        f"{rows:,} payments and {rows:,} events of one store in two years, as single tables and in {MONTHS} months; one"
        " client, nothing cached.",
    )
    with contextlib.ExitStack() as stack:
        found = dict(zip((_ONE, _BY_MONTH), stack.enter_context(_both(rows)), strict=True))
        bases = {name: _serve(stack, data) for name, data in found.items()}
        _lists(suite, bases, found, rounds, seconds, depth)
        _forget(suite, found)
        suite.machine(found[_ONE])
    return suite


@contextlib.contextmanager
def _both(rows: int) -> Iterator[tuple[Data, Data]]:
    home = HOME / f"data-by-month-{rows}"
    with bare_servers(home, durable=False, kept=False) as (url, redis_url):
        by_month = make_url(url).set(database="dues_by_month").render_as_string(hide_password=False)
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            connection.cursor().execute("create database dues_by_month")
        found = []
        for database in (url, by_month):

            def fill(cursor: psycopg2.extensions.cursor, database: str = database) -> None:
                _fill(cursor, database, rows, is_by_month=database == by_month)

            found.append(make_ready(home, database, redis_url, fill, cached=False))
        yield found[0], found[1]


def _fill(cursor: psycopg2.extensions.cursor, database: str, rows: int, *, is_by_month: bool) -> None:
    if is_by_month:
        with changing(_settings(database)) as session:
            for name in ("payments", "events"):
                convert(session, BY_NAME[name], FIRST - timedelta(days=20))
                for month in months_from(FIRST, MONTHS):
                    make_ahead(session, BY_NAME[name], month)
    values = {"rows": rows, "first": FIRST, "span": _SPAN}
    print(f"filling {rows:,} payments and events …", flush=True)
    cursor.execute(_PEOPLE, values)
    with unindexed(cursor):
        cursor.execute(_PAYMENTS, values)
    cursor.execute(_EVENTS, values)


def _settings(database: str) -> Settings:
    return Settings(database_url=database, redis_url="redis://nowhere", secret_key="k" * 32, db_statement_timeout_s=600)


def _serve(stack: contextlib.ExitStack, data: Data) -> str:
    argv = [*DUES, "server:app"]
    return stack.enter_context(serving("dues", argv, {**data.environ(), "PORT": "{port}"}, "/healthz"))


def _lists(
    suite: Suite, bases: dict[str, str], found: dict[str, Data], rounds: int, seconds: float, depth: int
) -> None:
    deep = {name: walk(bases[name], data, depth) for name, data in found.items()}
    asked = {
        "first page by time": "&cursor=",
        "first page by id": "&sort=-id&cursor=",
        f"after {depth:,} rows by time": "&cursor={deep}",
        "of one status": "&status=failed&cursor=",
        "by amount": "&sort=-amount&cursor=",
        "with its total": "",
    }
    figures = interleave(
        rounds,
        {
            f"{what}, {name}": median_ms(bases[name], data, extra.format(deep=deep[name]), seconds)
            for what, extra in asked.items()
            for name, data in found.items()
        },
        "ms",
    )
    suite.table("A page of payments, median of one client", figures)
    for what in asked:
        ratio = figures[f"{what}, {_BY_MONTH}"].median / figures[f"{what}, {_ONE}"].median
        suite.goal(Goal(f"{what}: by month / one table", ratio, 1.5, at_most=True))


def _forget(suite: Suite, found: dict[str, Data]) -> None:
    """The events of a month, forgotten as the housekeeping does it; a few times, one month after the other."""
    times: dict[str, list[float]] = {_ONE: [], _BY_MONTH: []}
    for ends in list(months_from(FIRST, 5))[1:]:
        since = (datetime.now(UTC) - ends).days
        config = replace(_settings(found[_BY_MONTH].database_url), keep_events_days=since)
        started = time.perf_counter()
        with changing(config) as session:
            empty_old(session, BY_NAME["events"], config, ends + timedelta(days=since))
        times[_BY_MONTH].append((time.perf_counter() - started) * 1000)
        times[_ONE].append(_delete(replace(config, database_url=found[_ONE].database_url)))
    figures = {name: Figure(name, "ms", tuple(values)) for name, values in times.items()}
    suite.table("The events of a month are forgotten", figures)
    ratio = figures[_BY_MONTH].median / figures[_ONE].median
    suite.goal(Goal("a month emptied / its rows deleted", ratio, 0.1, at_most=True))


def _delete(config: Settings) -> float:
    app = create_base(config)
    started = time.perf_counter()
    with app.app_context():
        while True:
            with transaction():
                if not delete_expired_events():
                    break
        taken = (time.perf_counter() - started) * 1000
        db.engine.dispose()
    return taken
