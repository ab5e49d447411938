"""A night of renewals: many subscriptions are due at the same time.

This process finds and bills the due subscriptions, with the code of the job that does it: an invoice, a period, a
payment and a job for each. At the same time the workers that `bin/run` starts, with their relay, charge them through
the sandbox and send the confirmations. They are watched for a while longer; their rate shows how long the rest would
take. Meanwhile other clients read lists and pay, as they do by day. Their latencies are shown beside those without
renewals.

The messages to PostgreSQL for each renewal are counted in PostgreSQL's log over one batch.
"""

import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2

from bench.contest import DUES
from bench.data import PACKAGES, STORES, USERS, Data, serving_new_data
from bench.jobs_processes import PausableProcess, relay, resumed, started_paused, wait_until
from bench.other_clients import OtherClients
from bench.payments import logged_statements
from bench.report import Suite
from bench.rounds import Figure, Goal
from bench.servers import HOME, serving
from config import load_settings
from dues.billing.renewals import BATCH, do_batch
from local.mailsink import MailSink
from workers.app import create_worker_app

# How long other requests are measured while nothing is due, in seconds.
_ALONE_S = 15
# The goal: 100,000 members are charged in one night.
WANTED_PER_S = 100_000 / (8 * 3600)

_MEMBERS = """
insert into payment_methods(user_id, id, gateway, gateway_customer, gateway_ref, brand, last4, exp_month, exp_year,
        is_default)
    select md5('user' || i)::uuid, md5('card' || i)::uuid, 'sandbox', 'sandbox', 'sandbox_ok@' || i, 'visa', '4242', 12,
        2099, true
    from generate_series(1, %(users)s) i;
insert into customers(store_id, user_id, created_at, updated_at)
    select md5('store' || (1 + i %% %(stores)s))::uuid, md5('user' || (1 + i / %(stores)s))::uuid, now(), now()
    from generate_series(1, %(due)s) i;
insert into subscriptions(store_id, id, user_id, status, package_id, amount, currency, interval, interval_count,
        anchor_at, timezone, trial_days, trial_refused, period_number, current_period_start, current_period_end,
        cancel_at_period_end, has_access, access_until, next_action_at, test, version, created_at, updated_at)
    select md5('store' || (1 + i %% %(stores)s))::uuid, md5('subscription' || i)::uuid,
        md5('user' || (1 + i / %(stores)s))::uuid, 'active',
        md5('package' || (1 + i %% %(stores)s) || '-' || (1 + i %% %(packages)s))::uuid,
        (1 + i %% %(packages)s) * 500, 'EUR', 'month', 1, now() - interval '1 month', 'UTC', 0, false, 0,
        now() - interval '1 month', now(), false, true, now(), now(), false, 1, now(), now()
    from generate_series(1, %(due)s) i;
analyze subscriptions; analyze customers; analyze payment_methods;
"""
_TOMORROW = "update subscriptions set next_action_at = now() + interval '1 day' where next_action_at <= now()"
_NOW = "update subscriptions set next_action_at = now() where next_action_at < now() + interval '2 days'"
# A message that is counted: none of those that switch PostgreSQL's log off again, and no query for the cache's switch,
# which web processes send several times a second.
_STATEMENT = re.compile(r"LOG: +statement: (?!alter system|select pg_reload_conf|set local statement_timeout)")


def run(due: int, watched_s: float) -> Suite:
    """Bill `due` renewals, and watch their charges for `watched_s` seconds."""
    suite = Suite(
        "Renewals", f"{due:,} subscriptions of {STORES} stores are due at one moment, and all cards are good."
    )
    with serving_new_data(1000) as data, _mails() as mails:
        environ = {**data.environ(), "SMTP_URL": mails.smtp_url, "MAIL_LOOKUP_URL": mails.lookup_url}
        _execute(data, _MEMBERS, {"users": USERS, "stores": STORES, "packages": PACKAGES, "due": due})
        workers = PausableProcess("billing-workers", [sys.executable, "-m", "workers.supervisor"], environ)
        processes = [workers, relay(data)]
        web = serving("dues", [*DUES, "server:app"], {**environ, "PORT": "{port}"}, "/healthz")
        with started_paused(*processes), web as base:
            messages = _messages(data, environ)
            _execute(data, _TOMORROW)
            others = {"alone": OtherClients(base, data)}
            with resumed(*processes):
                with others["alone"]:
                    time.sleep(_ALONE_S)
                _execute(data, _NOW)
                with (night := OtherClients(base, data)):
                    seconds, megabytes = _bill(data, environ)
                with (after := OtherClients(base, data)):
                    charged = _rate(data, watched_s)
                others |= {"while all is billed": night, "while all is charged": after}
                for each in others.values():
                    each.settle()
        suite.table("What is due is billed", {"all": Figure("all", "s", (seconds,))})
        suite.table("Memory of the process", {"most": Figure("most", "MB", (megabytes,))})
        suite.table("Messages to PostgreSQL for each renewal", {"each": Figure("each", "messages", (messages,))})
        suite.table("Charged and invoiced", {"each second": Figure("each second", "renewals/s", (charged,))})
        reads = {name: Figure(name, "ms", (each.reads_ms,)) for name, each in others.items()}
        suite.table("p99 of others' lists", reads)
        paid = {name: Figure(name, "ms", (each.confirmations_ms,)) for name, each in others.items()}
        suite.table("p99 of others' payments, from the request to the confirmation that was sent", paid)
        suite.goal(Goal("renewals a second / 100,000 in eight hours", charged / WANTED_PER_S, 1.0))
        suite.machine(data)
    return suite


@contextmanager
def _mails() -> Iterator[MailSink]:
    home = HOME / "billing"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    sink = MailSink(home)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()


def _bill(data: Data, environ: dict[str, str]) -> tuple[float, float]:
    """Bill everything that is due. If it takes long enough, the workers notice and take part. Returns: the seconds
    taken, and the peak memory of this process in MB."""
    app = create_worker_app(load_settings(environ))
    with app.app_context():
        started = time.perf_counter()
        while do_batch(BATCH) or _is_due(data):
            pass
        seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _is_due(data: Data) -> bool:
    return bool(_execute(data, "select from subscriptions where next_action_at <= now() limit 1"))


def _messages(data: Data, environ: dict[str, str]) -> float:
    """Messages to PostgreSQL per renewal, counted over one batch. A message may hold several statements."""
    app = create_worker_app(load_settings(environ))
    with logged_statements(data) as entries, app.app_context():
        count = do_batch(BATCH)
    return len([entry for entry in entries if _STATEMENT.search(entry)]) / count


def _rate(data: Data, watched_s: float) -> float:
    """Renewals charged per second."""
    wait_until(lambda: _charged(data) > 0, "the first renewal", every_s=0.1)
    started, before = time.perf_counter(), _charged(data)
    time.sleep(watched_s)
    return (_charged(data) - before) / (time.perf_counter() - started)


def _charged(data: Data) -> int:
    ((count,),) = _execute(data, "select count(*) from invoices where kind = 'renewal' and status = 'paid'")
    return int(str(count))


def _execute(data: Data, sql: str, values: dict[str, int] | None = None) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(data.database_url.replace("+psycopg2", ""))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []
