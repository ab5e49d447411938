"""How gunicorn runs Dues. Every number comes from config.py."""

import gc
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from config import load_settings

_settings = load_settings()

# Where the web processes write what they measure, for whichever of them is asked (dues/observability/metrics.py).
# prometheus_client looks for it once, as it is imported.
_metrics = Path(_settings.dues_home).absolute() / f"metrics-{_settings.port}"
_metrics.mkdir(parents=True, exist_ok=True)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)

from prometheus_client.multiprocess import mark_process_dead  # noqa: E402

from dues.observability.logs import start_logging  # noqa: E402

# gunicorn would take $PORT alone to mean every interface.
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
threads = _settings.web_threads
# `gunicorn wsgi:app` serves Flask alone, on threads.
worker_class = "gthread" if "wsgi:app" in sys.argv else "api.server.protocol.Worker"
timeout = 30
graceful_timeout = 25
keepalive = 30
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
    """Begin with nothing counted. Not before the port is ours: another server may be using the folder."""
    for file in _metrics.glob("*.db"):
        file.unlink()


# How soon a process notices that it has lost the main one. The next one tries for five seconds to get the port.
_ORPHANED_S = 0.5


def post_fork(server: Any, worker: Any) -> None:
    """From here on it holds the port, which takes seconds longer to be served."""
    threading.Thread(target=_end_with, args=(worker.ppid,), name="parent", daemon=True).start()


def _end_with(main: int) -> None:
    """Uvicorn's worker does not look whether gunicorn's main process still lives: it would serve on, watched by nobody,
    and keep the port from the server that is started instead."""
    while os.getppid() == main:
        time.sleep(_ORPHANED_S)
    while True:
        # Again and again, because until its own handler is there it has the main process's, which does nothing here.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHANED_S)


def post_worker_init(worker: Any) -> None:
    """Ten thousand clients that wait are a million objects; to look through them all for garbage again and again would
    take more time than to serve them. What is here from the start is not looked at at all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)


def child_exit(server: Any, worker: Any) -> None:
    """What a process that is gone had open no longer counts."""
    mark_process_dead(worker.pid)
