"""Everything that is measured, once: name, labels and what it means; exposed by `/metrics`.

Under gunicorn each process writes its numbers to files in PROMETHEUS_MULTIPROC_DIR (gunicorn.conf.py sets it before
this is imported), and whichever process is asked adds them up. Names and labels are an interface: dashboards and
alerts are written against them.
"""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Histogram(
    "dues_http_request_duration_seconds",
    "Requests answered, by the time until the first byte",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
DB_STATEMENTS = Counter("dues_db_statements", "SQL statements sent for requests")
DB_SECONDS = Counter("dues_db_statement_seconds", "Time that requests spent in SQL statements")
POOL_SIZE = Gauge("dues_db_pool_size", "Connections that the pools may open", multiprocess_mode="livesum")
POOL_IN_USE = Gauge("dues_db_pool_in_use", "Pooled connections checked out", multiprocess_mode="livesum")
POOL_OPEN = Gauge("dues_db_pool_open", "Pooled connections open", multiprocess_mode="livesum")
READ_CONNECTIONS = Gauge(
    "dues_db_read_connections", "Connections open on which the event loops read", multiprocess_mode="livesum"
)
POOL_WAITS = Counter("dues_db_pool_waits", "Times that no pooled connection was free at once")
POOL_WAIT_SECONDS = Counter("dues_db_pool_wait_seconds", "Time spent waiting for a pooled connection")
POOL_TIMEOUTS = Counter("dues_db_pool_timeouts", "Times that none became free in time")
CACHE_READS = Counter(
    "dues_cache_reads",
    "Answers and accesses asked of the shared cache: hit, kept (made and kept), passed (made and not kept)",
    ("result",),
)
CACHE_CLOSED = Counter("dues_cache_closed", "Times that a write which could not reach Redis turned the cache off")
WAITING_CLIENTS = Gauge("dues_waiting_clients", "Clients held until a job changes", multiprocess_mode="livesum")
CONNECTIONS = Gauge("dues_connections", "Open connections of clients", multiprocess_mode="livesum")
CONNECTIONS_REFUSED = Counter("dues_connections_refused", "Connections refused because no more may be open")
FILE_FAILURES = Counter("dues_file_failures", "Reads of reports' files that failed, by the system's error", ("error",))
LOG_LINES_DROPPED = Counter("dues_log_lines_dropped", "Log lines lost because their reader stalled")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(*asked: Collector) -> bytes:
    """All metrics of all processes of this server, and those that `asked` collect now, in Prometheus' text format."""
    counted, collected = REGISTRY, CollectorRegistry()
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    for collector in asked:
        collected.register(collector)
    return bytes(generate_latest(counted) + generate_latest(collected))
