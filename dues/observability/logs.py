"""Logs: one JSON object a line on standard output, written by a thread of its own so that no request waits for it.

    start_logging(settings.log_level)       once, where a process begins (web, worker, relay)
    with log_fields(request_id=…): …        what every line of the block says too
    log.info("built", extra={"rows": 3})    {"ts": …, "level": "info", "logger": …, "message": "built", "rows": 3, …}

The queue before the thread is bounded: when the reader of our output stalls, lines are dropped and counted, in
`/metrics` and in the next line that gets through. A forked child gets a queue and a thread of its own.
"""

import logging
import os
import re
import select
import threading
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any

import ujson

from dues.context import Scoped
from dues.observability.metrics import LOG_LINES_DROPPED
from dues.observability.trace import trace_id

_LONGEST_QUEUE = 10_000
# Shorter writes to a pipe are not torn apart by those of other processes.
_WHOLE_WRITE = select.PIPE_BUF
_FLUSH_S = 2.0
_GATHER_S = 0.02

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# Whose lines are wanted from LOG_LEVEL on; of the libraries' only warnings and worse.
_OURS = ("dues", "gunicorn")
# What must never be in a log, wherever it comes from: our tokens, others' credentials, passwords in URLs.
_SECRETS = re.compile(r"(\bdues_)[\w-]{40,}|(\b(?:Bearer|Basic) )[\w.~+/=-]{8,}|(://[^\s/:@\"]*:)[^\s/@\"]+(?=@)")
_SIGNS = ("dues_", "Bearer ", "Basic ", "://")

_fields: ContextVar[Mapping[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))

Document = dict[str, Any]


def log_fields(**fields: Any) -> Scoped[Mapping[str, Any]]:
    """Have each line that is logged inside the block say these too."""
    return Scoped(_fields, {**_fields.get(), **fields})


def start_logging(level: str, output: int = 1) -> "Lines":
    """Send what this process logs, from `level` on, to the file descriptor `output`. Done twice: the same handler."""
    root = logging.getLogger()
    lines = next((handler for handler in root.handlers if isinstance(handler, Lines)), None)
    if lines is None:
        lines = Lines(output)
        root.addHandler(lines)
    least = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(least, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)
    return lines


class Lines(QueueHandler):
    """Takes records from any thread and never waits; its own thread writes them."""

    queue: "SimpleQueue[Document | threading.Event]"

    def __init__(self, output: int = 1, longest_queue: int = _LONGEST_QUEUE) -> None:
        super().__init__(SimpleQueue())
        self._output = output
        self._longest_queue = longest_queue
        self._formatter = logging.Formatter()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        # What was queued is the parent's to write, and its thread did not come along.
        self.queue = SimpleQueue()
        self._thread = None
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> Document:
        """All that may be different by the time it is written."""
        document: Document = {
            "ts": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **_fields.get(),
        }
        if trace := trace_id():
            document["trace_id"] = trace
        document.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            document["exception"] = self._formatter.formatException(record.exc_info)
        return document

    def enqueue(self, document: Any) -> None:
        if self.queue.qsize() >= self._longest_queue:
            self._drop()
            return
        self.queue.put(document)
        # emit() holds the handler's lock, so there is only ever one thread.
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, args=(self.queue,), name="logs", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait, but not long, until all that was logged before is written. logging calls it when a process ends."""
        if self._thread is not None and self._thread.is_alive() and self._thread is not threading.current_thread():
            written = threading.Event()
            self.queue.put(written)
            written.wait(_FLUSH_S)

    def _drop(self) -> None:
        self._dropped += 1
        LOG_LINES_DROPPED.inc()

    def _write_all(self, queue: "SimpleQueue[Document | threading.Event]") -> None:
        batch = bytearray()
        while True:
            try:
                item = queue.get_nowait()
            except Empty:
                self._write(batch)
                item = queue.get()
                # Waking up for each line would cost the threads that log more than the lines do.
                time.sleep(_GATHER_S)
            if isinstance(item, threading.Event):
                self._write(batch)
                item.set()
                continue
            if self._dropped:
                missing, self._dropped = self._dropped, 0
                item["dropped_before"] = missing
            line = render(item)
            if len(batch) + len(line) > _WHOLE_WRITE:
                self._write(batch)
            batch += line

    def _write(self, batch: bytearray) -> None:
        # Not through sys.stdout: a process that ends while its reader stalls would wait for that buffer's lock.
        while batch:
            try:
                del batch[: os.write(self._output, batch)]
            except BlockingIOError:
                select.select([], [self._output], [])
            except OSError:
                batch.clear()


def render(document: Document) -> bytes:
    """A document as one line. What is no JSON is written as text; secrets are not written at all."""
    document["ts"] = datetime.fromtimestamp(document["ts"], UTC).isoformat(timespec="microseconds")
    try:
        text = _dump(document)
    except (TypeError, ValueError, OverflowError):
        text = _dump({name: str(value) for name, value in document.items()})
    if any(sign in text for sign in _SIGNS):
        text = _SECRETS.sub(_mask, text)
    return text.encode(errors="backslashreplace") + b"\n"


def _dump(document: Document) -> str:
    return ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False, default=str)


def _mask(match: re.Match[str]) -> str:
    return f"{match[1] or match[2] or match[3]}***"
