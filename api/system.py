"""For those who run Dues: is it alive, is it ready, what does it measure."""

import hmac
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import TypeVar
from urllib.parse import parse_qsl

import psycopg2
from flask import Blueprint, Flask, Response, current_app, g
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import RedisError, ResponseError
from sqlalchemy.exc import SQLAlchemyError

from api.flask_host import respond
from api.reply import json_reply
from config import Settings
from dues import VERSION
from dues.breaker import troubled_circuits, webhook_circuits
from dues.errors import InvalidParameter, Unauthenticated, Unavailable
from dues.jobs.stats import QueueStats, queue_stats
from dues.mail.ledger import count_unknown
from dues.moves.states import unfinished_moves
from dues.observability.metrics import CONTENT_TYPE, exposition
from dues.observability.outage import Outage
from dues.postgres import connect, told
from dues.postgres.revisions import standing_of
from dues.postgres.sessions import WrongSession, is_read_only, wrong_settings
from dues.postgres.watchdog import check_alive, given_up_soon, watchdog
from dues.redis.client import check_takes_writes, redis_client
from dues.settings import settings

# A probe is asked every few seconds and given up soon; two is also the least that libpq takes.
_DATABASE_TIMEOUT_S = 2
_REDIS_TIMEOUT_S = 1.0
# For all that PostgreSQL is asked for one look at the metrics. Prometheus gives up after ten seconds.
_METRICS_S = 6.0

T = TypeVar("T")

log = logging.getLogger("dues.readiness")

system = Blueprint("system", __name__)


def init_system(app: Flask, config: Settings) -> None:
    app.extensions["readiness"] = Readiness(config)
    app.register_blueprint(system)


@system.get("/healthz")
def alive() -> Response:
    """This process answers. Nothing it stands on is asked: starting it again would not bring that back."""
    return _now({"status": "ok"})


@system.get("/readyz")
def ready() -> Response:
    """Whether requests should be sent here; 503 names what is missing. With `?ignore=redis` an outage of Redis is none
    of Dues: payments are taken without it."""
    ignored = [value for name, value in parse_qsl(g.request.query, keep_blank_values=True) if name == "ignore"]
    if ignored not in ([], ["redis"]):
        raise InvalidParameter("only `ignore=redis` may be asked, once")
    readiness: Readiness = current_app.extensions["readiness"]
    if missing := readiness.missing(with_redis=not ignored):
        raise Unavailable("; ".join(missing.values()), code="not_ready", missing=list(missing))
    return _now({"status": "ready"})


@system.get("/metrics")
def metrics() -> Response:
    """Open where METRICS_TOKEN is empty: the web server listens on loopback unless told otherwise, the numbers tell
    of no customer, and a gateway in front need not pass the path on."""
    if wanted := settings().metrics_token:
        sent = g.request.token or ""
        if not hmac.compare_digest(sent.encode(), wanted.encode()):
            raise Unauthenticated("this needs the token of METRICS_TOKEN")
    readiness: Readiness = current_app.extensions["readiness"]
    # Whoever collects metrics waits for seconds only: for a PostgreSQL that hangs, or whose tables are locked.
    with watchdog.hurried(_METRICS_S) as has_time:
        collectors: list[Collector] = [_Away()]
        if not readiness.database_hangs():
            questions = _Questions(has_time)
            collectors = [kind(questions) for kind in (_Queues, _Mails, _Moves, _Circuits)]
        document = exposition(_Build(), *collectors)
    return Response(document, content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})


def _now(document: dict[str, str]) -> Response:
    return respond(json_reply(document, headers={"Cache-Control": "no-store"}))


class Readiness:
    """Asks what Dues stands on, each within a short time, on connections of its own: a busy pool is not an outage."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        # Usually two names of one server, which is then asked once.
        self._servers = [redis_client(url, _REDIS_TIMEOUT_S) for url in {config.redis_url, config.cache_redis_url}]
        self._outage = Outage()

    def missing(self, *, with_redis: bool) -> dict[str, str]:
        """What is not as it should be, of `database`, `migrations` and `redis`: each with a sentence. The log says what
        the servers said, which may name hosts and users."""
        found, why = self._missing_of_database()
        try:
            for server in self._servers if with_redis else ():
                check_takes_writes(server, self._config.cache_key_prefix)
        except (RedisError, OSError) as error:
            found["redis"] = "redis takes no writes" if isinstance(error, ResponseError) else "redis is not there"
            why = "; ".join(filter(None, (why, str(error))))
        if found and self._outage.failed():
            log.warning("not ready: %s%s", "; ".join(found.values()), f" ({why})" if why else "")
        elif not found and self._outage.worked():
            log.warning("ready again")
        return found

    def database_hangs(self) -> bool:
        """Whether PostgreSQL says nothing at all within a short time. One that has no connection left says so, and may
        still be asked on those that the pool has."""
        began = time.monotonic()
        try:
            with closing(connect(self._config, "dues-metrics", _DATABASE_TIMEOUT_S)) as connection:
                # A pooler between lets one in though it has nobody behind it.
                check_alive(connection)
        except (WrongSession, psycopg2.Error):
            # Older libpqs count whole seconds of the clock, so that two may be little more than one.
            return time.monotonic() - began > (_DATABASE_TIMEOUT_S - 1) * 0.9
        return False

    def _missing_of_database(self) -> tuple[dict[str, str], str]:
        """What is missing, and what the server said."""
        limit = {"statement_timeout": str(_DATABASE_TIMEOUT_S * 1000)}
        try:
            connected = connect(self._config, "dues-readiness", _DATABASE_TIMEOUT_S, **limit)
            with closing(connected) as connection, given_up_soon(connection):
                if (standing := standing_of(connection)).is_behind:
                    return {"migrations": "migrations are missing"}, standing.told()
                if is_read_only(connection):
                    return {"database": "database is read-only"}, ""
                if wrong := wrong_settings(self._config, connection, **limit):
                    return {"database": f"sessions of the database are not set up: {', '.join(wrong)}"}, ""
        except WrongSession as error:
            return {"database": str(error)}, ""
        except psycopg2.Error as error:
            return {"database": "database is not there, or has no connection left"}, told(error)
        return {}, ""


class _Build(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("dues_build_info", "What runs here", labels=("version",))
        family.add_metric((VERSION,), 1)
        yield family


class _Away(Collector):
    """In place of what PostgreSQL would have to be asked for."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield _database_up(0)


def _database_up(value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily("dues_database_up", "Whether PostgreSQL answered", value=value)


class _OfPostgres(Collector):
    """Numbers that PostgreSQL is asked for, while it answers in time."""

    def __init__(self, questions: "_Questions") -> None:
        self.ask = questions.ask


class _Questions:
    """What PostgreSQL is asked for one look at the metrics: after the first question that fails, nothing more. Each may
    have waited for a connection."""

    def __init__(self, has_time: Callable[[], bool]) -> None:
        self._has_time, self._has_failed = has_time, False

    def ask(self, question: Callable[[], T]) -> T | None:
        """None where it is not answered."""
        if not self._has_failed and self._has_time():
            with suppress(SQLAlchemyError, psycopg2.Error):
                return question()
        self._has_failed = True
        return None


class _Queues(_OfPostgres):
    """How far behind the queues are."""

    _GAUGES = {
        "dues_queue_depth": ("depth", "Jobs that are due, without those that are held back"),
        "dues_queue_held_back": ("held_back", "Jobs that are due, of stores that have as many running as they may"),
        "dues_queue_latency_seconds": ("latency_s", "How long the oldest job of the depth has waited"),
        "dues_queue_relay_lag_seconds": ("relay_lag_s", "How long no relay has looked at what is due"),
        "dues_queue_running": ("running", "Jobs that a worker has claimed"),
        "dues_queue_expired_leases": ("expired", "Of those, the ones whose worker is silent"),
        "dues_queue_unknown_kinds": (
            "unknown",
            "Jobs that wait for a worker of another release, which knows their kind",
        ),
        "dues_queue_objective_seconds": ("objective_s", "The longest that a job should wait"),
        "dues_queue_arrivals_per_second": ("arrivals_per_s", "Jobs that came to be due in the last minute"),
        "dues_queue_failures_per_second": ("failures_per_s", "Jobs that failed for good in the last minute"),
        "dues_queue_job_seconds": ("mean_s", "How long a job of the last minute took on average"),
        "dues_queue_recommended_workers": ("recommended_workers", "Worker processes that would keep up"),
    }

    def collect(self) -> Iterator[GaugeMetricFamily]:
        queues: list[QueueStats] = self.ask(queue_stats) or []
        yield _database_up(1 if queues else 0)
        for name, (field, meaning) in self._GAUGES.items():
            family = GaugeMetricFamily(name, meaning, labels=("queue",))
            for queue in queues:
                value = getattr(queue, field)
                if value is not None:
                    family.add_metric((queue.queue,), value)
            yield family


class _Mails(_OfPostgres):
    """Mails of which nobody knows whether they were sent."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if (count := self.ask(count_unknown)) is not None:
            meaning = "Mails held because nobody knows whether they were accepted"
            yield GaugeMetricFamily("dues_mails_unknown", meaning, value=count)


class _Moves(_OfPostgres):
    """Stores whose move to another Dues has begun and not ended."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if (stores := self.ask(unfinished_moves)) is not None:
            meaning = "Stores whose move to another Dues is under way or was broken off"
            yield GaugeMetricFamily("dues_stores_moving", meaning, value=len(stores))


class _Circuits(_OfPostgres):
    """What outside has failed of late."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        failures = GaugeMetricFamily("dues_circuit_failures", "Calls that failed in a row", labels=("circuit",))
        is_open = GaugeMetricFamily("dues_circuit_open", "Whether it is left alone for now", labels=("circuit",))
        for circuit in self.ask(troubled_circuits) or ():
            failures.add_metric((circuit.name,), circuit.failures)
            is_open.add_metric((circuit.name,), circuit.is_open)
        yield failures
        yield is_open
        if webhooks := self.ask(webhook_circuits):
            yield GaugeMetricFamily(
                "dues_webhook_endpoints_failing", "Webhook endpoints that did not answer of late", webhooks.failing
            )
            yield GaugeMetricFamily(
                "dues_webhook_endpoints_left_alone", "Of those, the ones that are not called for now", webhooks.open
            )
