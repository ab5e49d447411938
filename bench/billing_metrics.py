"""The metrics of a store over a year: all payments and subscriptions of the database belong to this one store."""

import contextlib
import re
import time
from contextlib import closing

import psycopg2
import urllib3

from bench.contest import DUES
from bench.data import USERS, Data, serving_data, store_ids
from bench.payments import logged_statements
from bench.report import Suite
from bench.rounds import Figure
from bench.servers import serving

# These subscriptions are never due, so nobody is charged.
_SUBSCRIPTIONS = """
begin;
set local session_replication_role = replica;
update payments set paid_at = created_at where status in ('succeeded', 'refunded');
insert into customers(store_id, user_id, created_at, updated_at)
    select md5('store1')::uuid, md5('user' || i)::uuid, now(), now() from generate_series(1, %(users)s) i
    on conflict do nothing;
insert into subscriptions(store_id, id, user_id, status, package_id, amount, currency, interval, interval_count,
        anchor_at, timezone, trial_days, trial_refused, period_number, cancel_at_period_end, has_access, ended_at, test,
        version, created_at, updated_at)
    select md5('store1')::uuid, md5('subscription' || i)::uuid, md5('user' || (1 + i %% %(users)s))::uuid,
        case when i < %(users)s then 'active' else 'canceled' end, md5('package1-1')::uuid, 500, 'EUR', 'month', 1,
        now(), 'UTC', 0, false, 0, false, false, case when i >= %(users)s then now() end, false, 1, now(), now()
    from generate_series(1, %(subscriptions)s) i;
-- Each begins at some moment of two years, is renewed five times, and all but the last of each member have ended.
insert into subscription_changes(store_id, subscription_id, id, kind, from_status, to_status, details, created_at,
        currency, mrr_before, mrr, committed_before, committed)
    select md5('store1')::uuid, md5('subscription' || i)::uuid, gen_random_uuid(), k.kind, k.before, k.after, '{}',
        now() - interval '720 days' + i * interval '7 minutes' + k.days * interval '1 day', 'EUR', k.had, k.has, k.had,
        k.has
    from generate_series(1, %(subscriptions)s) i
    cross join (values ('activated', 'incomplete', 'active', 0, 0, 500), ('renewed', 'active', 'active', 30, 500, 500),
        ('renewed', 'active', 'active', 60, 500, 500), ('past_due', 'active', 'past_due', 90, 500, 500),
        ('recovered', 'past_due', 'active', 91, 500, 500), ('renewed', 'active', 'active', 120, 500, 500),
        ('ended', 'active', 'canceled', 150, 500, 0)) k(kind, before, after, days, had, has)
    where k.kind <> 'ended' or i >= %(users)s;
commit;
"""
_VACUUM = ("vacuum analyze payments", "vacuum analyze subscriptions", "vacuum analyze subscription_changes")
_TIMES = 20
# Statements that are not counted: those that switch PostgreSQL's log on and off, and the query for the cache's switch
# that each process sends several times a second.
_OURS = re.compile(r"pg_reload_conf|alter system|cache_switch")


def run(payments: int, subscriptions: int) -> Suite:
    suite = Suite(
        "Metrics of a store",
        f"One store with {payments:,} payments and {subscriptions:,} subscriptions; a year by month.",
    )
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(payments, 1))
        _fill(data, subscriptions)
        environ = {**data.environ(), "PORT": "{port}"}
        base = stack.enter_context(serving("dues", [*DUES, "server:app"], environ, "/healthz"))
        ask = _Asker(base, data)
        ask.time("")
        uncached = tuple(ask.time(f"&to=2027-01-01T00:00:{second:02}Z") for second in range(_TIMES))
        with logged_statements(data) as entries:
            ask.time("&to=2027-01-01T00:01:00Z")
        cached = tuple(ask.time("") for _ in range(_TIMES))
        figures = {"not asked for before": uncached, "asked for before": cached}
        suite.table("Metrics", {name: Figure(name, "ms", values) for name, values in figures.items()})
        counted = float(sum("statement: " in entry and not _OURS.search(entry) for entry in entries))
        suite.table("Statements of one", {"each": Figure("each", "statements", (counted,))})
        suite.machine(data)
    return suite


def _fill(data: Data, subscriptions: int) -> None:
    with closing(psycopg2.connect(data.database_url.replace("+psycopg2", ""), user="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select count(*) from subscriptions")
            if cursor.fetchone() != (0,):
                return
            print(f"filling {subscriptions:,} subscriptions …", flush=True)
            cursor.execute(_SUBSCRIPTIONS, {"users": USERS, "subscriptions": subscriptions})
            for statement in _VACUUM:
                cursor.execute(statement)


class _Asker:
    def __init__(self, base: str, data: Data) -> None:
        self._http = urllib3.PoolManager(retries=False)
        self._url = f"{base}/v1/stores/{store_ids()[0]}/metrics?interval=month&from=2026-01-01T00:00:00Z"
        self._headers = {"Authorization": f"Bearer {data.token}"}

    def time(self, more: str) -> float:
        """How long an answer takes, in milliseconds."""
        started = time.perf_counter()
        answer = self._http.request("GET", self._url + more, headers=self._headers, timeout=60)
        took = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(f"metrics were answered {answer.status}: {answer.data!r}")
        return took * 1000
