"""Everything that is measured, once: name, labels and what it means; exposed by `/metrics`.

Under gunicorn whichever process is asked adds up what all of them have counted (exchange.py). Names and labels are an
interface: dashboards and alerts are written against them.
"""

from pathlib import Path

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from dues.observability.exchange import Exchange

disable_created_metrics()  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Histogram(
    "dues_http_request_duration_seconds",
    "Requests answered, by the time until the first byte",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
DB_STATEMENTS = Counter("dues_db_statements", "SQL statements sent for requests")
DB_SECONDS = Counter("dues_db_statement_seconds", "Time that requests spent in SQL statements")
POOL_SIZE = Gauge("dues_db_pool_size", "Connections that the pools may open")
POOL_IN_USE = Gauge("dues_db_pool_in_use", "Pooled connections checked out")
POOL_OPEN = Gauge("dues_db_pool_open", "Pooled connections open")
READ_CONNECTIONS = Gauge("dues_db_read_connections", "Connections open on which the event loops read")
POOL_WAITS = Counter("dues_db_pool_waits", "Times that no pooled connection was free at once")
POOL_WAIT_SECONDS = Counter("dues_db_pool_wait_seconds", "Time spent waiting for a pooled connection")
POOL_TIMEOUTS = Counter("dues_db_pool_timeouts", "Times that none became free in time")
CACHE_READS = Counter(
    "dues_cache_reads",
    "Answers and accesses asked of the shared cache: hit, kept (made and kept), passed (made and not kept)",
    ("result",),
)
REPLICA_READS = Counter(
    "dues_replica_reads",
    "Reads that missed the cache, by what replicas had to say: answered; behind (none is known to have seen enough),"
    " refused (it turned out so), nothing (no row), failed (it, or what the primary's clock says was not known)",
    ("result",),
)
CACHE_CLOSED = Counter("dues_cache_closed", "Times that a write which could not reach Redis turned the cache off")
WAITING_CLIENTS = Gauge("dues_waiting_clients", "Clients held until a job changes")
CLIENTS_OF_CHANGES = Gauge("dues_clients_of_changes", "Clients held until there is something new to pull")
CONNECTIONS = Gauge("dues_connections", "Open connections of clients")
CONNECTIONS_REFUSED = Counter("dues_connections_refused", "Connections refused because no more may be open")
FILE_FAILURES = Counter("dues_file_failures", "Reads of reports' files that failed, by the system's error", ("error",))
LOG_LINES_DROPPED = Counter("dues_log_lines_dropped", "Log lines lost because their reader stalled")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


_exchange: Exchange | None = None


def share(folder: Path) -> Exchange:
    """Have this process's numbers be shown by the other processes of its server, and theirs by this one."""
    global _exchange
    _exchange = Exchange(folder)
    _exchange.start()
    return _exchange


def exposition(*asked: Collector) -> bytes:
    """All metrics of all processes of this server, and those that `asked` collect now, in Prometheus' text format."""
    counted, collected = REGISTRY, CollectorRegistry()
    if _exchange:
        counted = CollectorRegistry()
        counted.register(_exchange.collect())
    for collector in asked:
        collected.register(collector)
    return bytes(generate_latest(counted) + generate_latest(collected))
