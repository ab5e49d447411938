"""Whether partitioning by month slows down lists, and what it costs to delete a month's events. The same rows are kept
in single tables and in tables by month: both at once or, if there are many rows, one after the other, so that the disk
holds only one of them. One client, nothing cached."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
from msgspec.structs import replace

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
from dues.partitions.tables import BY_NAME
from dues.partitions.upkeep import empty_old, make_ahead
from dues.postgres import db, transaction
from dues.postgres.changing import changing
from dues.reads.compile import COUNTED_ROWS
from dues.webhooks.retention import delete_expired_events

FIRST, MONTHS = datetime(2025, 1, 1, tzinfo=UTC), 24
_SPAN = timedelta(days=730)
# How many rows are inserted at a time.
_PART = 500_000
# Up to this many rows, both forms exist at the same time.
_SIDE_BY_SIDE = 2_000_000
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
_TIMES = (
    "generate_series(%(from)s, %(to)s) i,"
    " lateral (select %(first)s + i / %(rows)s::float8 * %(span)s::interval as at) t"
)
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
    is_side_by_side = rows <= _SIDE_BY_SIDE
    suite = Suite(
        "Tables by month" + (", side by side" if is_side_by_side else ""),
        f"{rows:,} payments, and then {rows:,} events, of one store in two years, as single tables and in {MONTHS}"
        f" months; one client, nothing cached but the estimates of totals above {COUNTED_ROWS:,}.",
    )
    lists: dict[str, Figure] = {}
    forgotten: dict[str, Figure] = {}
    for forms in ((_ONE, _BY_MONTH),) if is_side_by_side else ((_ONE,), (_BY_MONTH,)):
        with contextlib.ExitStack() as stack:
            found = {form: stack.enter_context(_serving(rows, form)) for form in forms}
            lists |= _lists(found, rounds, seconds, depth)
            forgotten |= {form: _forget(data, form, rows) for form, data in found.items()}
            suite.machine(found[forms[0]])
    asked = _asked(depth, "")
    names = [f"{what}, {form}" for what in asked for form in (_ONE, _BY_MONTH)]
    suite.table("A page of payments, median of one client", {name: lists[name] for name in names})
    for what in asked:
        ratio = lists[f"{what}, {_BY_MONTH}"].median / lists[f"{what}, {_ONE}"].median
        suite.goal(Goal(f"{what}: by month / one table", ratio, 1.5, at_most=True))
    suite.table("The events of a month are forgotten", forgotten)
    ratio = forgotten[_BY_MONTH].median / forgotten[_ONE].median
    suite.goal(Goal("a month emptied / its rows deleted", ratio, 0.1, at_most=True))
    return suite


@contextlib.contextmanager
def _serving(rows: int, form: str) -> Iterator[Data]:
    """Serve the payments in single tables or in tables by month."""
    home = HOME / f"data-{form.replace(' ', '-')}-{rows}"
    with bare_servers(home, durable=False, kept=False) as (url, redis_url):

        def fill(cursor: psycopg2.extensions.cursor) -> None:
            if form == _BY_MONTH:
                _partition(url)
            cursor.execute(_PEOPLE, {"rows": rows})
            _fill(cursor, url, "payments", _PAYMENTS, rows)

        yield make_ready(home, url, redis_url, fill, cached=False)


def _partition(url: str) -> None:
    with changing(_settings(url)) as session:
        for name in ("payments", "events"):
            convert(session, BY_NAME[name], FIRST - timedelta(days=20))
            for month in months_from(FIRST, MONTHS):
                make_ahead(session, BY_NAME[name], month)


def _fill(cursor: psycopg2.extensions.cursor, url: str, table: str, sql: str, rows: int) -> None:
    """Insert rows in parts, with a checkpoint after each so that PostgreSQL can release its log: the log of all rows
    together would be as large as the rows."""
    print(f"filling {rows:,} {table} …", flush=True)
    values: dict[str, object] = {"rows": rows, "first": FIRST, "span": _SPAN}
    with closing(psycopg2.connect(url, user="postgres")) as other, unindexed(cursor, table):
        other.autocommit = True
        for begin in range(1, rows + 1, _PART):
            cursor.execute(sql, {**values, "from": begin, "to": min(rows, begin + _PART - 1)})
            other.cursor().execute("checkpoint")
    cursor.execute(f"vacuum analyze {table}")


def _settings(database: str) -> Settings:
    return Settings(database_url=database, redis_url="redis://nowhere", secret_key="k" * 32, db_statement_timeout_s=600)


def _serve(stack: contextlib.ExitStack, data: Data) -> str:
    argv = [*DUES, "server:app"]
    return stack.enter_context(serving("dues", argv, {**data.environ(), "PORT": "{port}"}, "/healthz"))


def _asked(depth: int, deep: str) -> dict[str, str]:
    """The pages measured and their query parameters; `deep` is the cursor after `depth` rows."""
    return {
        "first page by time": "&cursor=",
        "first page by id": "&sort=-id&cursor=",
        f"after {depth:,} rows by time": f"&cursor={deep}",
        "of one status": "&status=failed&cursor=",
        "by amount": "&sort=-amount&cursor=",
        "with its total": "",
    }


def _lists(found: dict[str, Data], rounds: int, seconds: float, depth: int) -> dict[str, Figure]:
    with contextlib.ExitStack() as stack:
        measured = {}
        for form, data in found.items():
            base = _serve(stack, data)
            for what, extra in _asked(depth, walk(base, data, depth)).items():
                measured[f"{what}, {form}"] = median_ms(base, data, extra, seconds)
        return interleave(rounds, measured, "ms")


def _forget(data: Data, form: str, rows: int) -> Figure:
    """Delete the events of a month as the housekeeping does, for several months, one after the other."""
    with closing(psycopg2.connect(data.database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            # So that payments and events are not on the disk at the same time.
            cursor.execute("truncate payments cascade")
            _fill(cursor, data.database_url, "events", _EVENTS, rows)
    forget = _empty if form == _BY_MONTH else _delete
    return Figure(form, "ms", tuple(forget(data.database_url, ends) for ends in list(months_from(FIRST, 5))[1:]))


def _kept(database: str, ends: datetime) -> Settings:
    return replace(_settings(database), keep_events_days=(datetime.now(UTC) - ends).days)


def _empty(database: str, ends: datetime) -> float:
    config = _kept(database, ends)
    started = time.perf_counter()
    with changing(config) as session:
        emptied = empty_old(session, BY_NAME["events"], config, ends + timedelta(days=config.keep_events_days))
    assert emptied == 1
    return (time.perf_counter() - started) * 1000


def _delete(database: str, ends: datetime) -> float:
    app = create_base(_kept(database, ends))
    started = time.perf_counter()
    with app.app_context():
        while True:
            with transaction():
                if not delete_expired_events():
                    break
        taken = (time.perf_counter() - started) * 1000
        db.engine.dispose()
    return taken
