"""How gunicorn runs Dues. Every number comes from config.py."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from config import lookalikes, settings_or_exit
from dues.mail.address import check_sender
from dues.observability import exchange, metrics
from dues.observability.logs import start_logging
from dues.observability.otel import check_otel
from urls import address

_settings = settings_or_exit(lambda _: check_otel(), check_sender)

# Of glibc's mallopt(3).
_M_MMAP_THRESHOLD = -3

# Where the web processes of this server show one another what they have counted. This is read by the main process.
_metrics = Path(_settings.dues_home).absolute() / f"metrics-{_settings.port}-{os.getpid()}"

# gunicorn would take $PORT alone to mean every interface.
bind = address(_settings.host, _settings.port)
workers = _settings.web_concurrency
threads = _settings.web_threads
# `gunicorn wsgi:app` serves Flask alone, on threads.
worker_class = "api.gunicorn_threads.Worker" if "wsgi:app" in sys.argv else "api.server.worker.Worker"
timeout = 30
graceful_timeout = 25
keepalive = _settings.keep_alive_s
limit_request_line = 8190
limit_request_fields = 100
backlog = 1024
# Gunicorn's control socket would be shared by every instance of this user's home.
control_socket_disable = True
# No proxy is trusted by its name alone: see docs/operating.md for serving behind one.
forwarder_headers = ""
accesslog = None


# A client that waits costs a socket; most systems allow a thousand files unless asked for more.
_, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most_files, _most_files))


class logger_class(Logger):  # noqa: N801  (the setting's name)
    """Gunicorn's own lines, and those of its workers, as JSON among the others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = [start_logging(_settings.log_level)]


def when_ready(server: Any) -> None:
    for line in lookalikes():
        server.log.warning("%s", line)
    if not exchange.prepare(_metrics):
        server.log.warning("%s cannot be written to: each process shows only its own metrics", _metrics)


def post_worker_init(worker: Any) -> None:
    if _metrics.is_dir():
        worker.metrics = metrics.share(_metrics)
    _spare_the_collector()
    _give_back_large_blocks()


def _spare_the_collector() -> None:
    """Ten thousand clients that wait are a million objects; to look through them all for garbage again and again would
    take more time than to serve them. What is here from the start is not looked at at all."""
    gc.collect()
    gc.freeze()


def _give_back_large_blocks() -> None:
    """Whatever is larger than this is the system's again as soon as it is free. Once glibc has seen a large block freed
    (the 19 MiB that a password takes to be checked) it would keep as much of each thread, 150 MB in all."""
    with suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def worker_exit(server: Any, worker: Any) -> None:
    if shared := getattr(worker, "metrics", None):
        shared.write()


def child_exit(server: Any, worker: Any) -> None:
    exchange.fold(_metrics, worker.pid)
