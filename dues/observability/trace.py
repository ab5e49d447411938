"""The trace that the present work belongs to, as a W3C `traceparent`, and the spans of it that are exported.

A request's `traceparent` goes into the jobs it enqueues, and on into theirs and their webhooks. Without spans it is
passed on as it came, and where a request brings none, one begins here. With spans (spans.py), each request, job and
call that is sampled has a span of its own, whose id the `traceparent` then carries: what is done inside it needs to
know no more than that. What is not sampled costs a look at a flag or a random number.
"""

import random
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, Protocol

from dues.context import Scoped

# Trace Context, 3.2: ids of zeros only are void; what follows the flags belongs to versions after 00.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<later>-[!-~]{0,200})?"
)
# In a statement: the table that it is about.
_TABLE = re.compile(r"\b(?:from|into|update)\s+([a-z_]+)", re.IGNORECASE)
_LONGEST_STATEMENT = 2000

Kind = Literal["server", "client", "consumer"]
Value = str | int | float | bool

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


class Exporter(Protocol):
    """Where spans go: dues/observability/spans.py."""

    def samples(self, parent: str | None) -> bool:
        """Whether a span is to be recorded; None begins a trace."""
        ...

    def export(
        self,
        name: str,
        kind: Kind,
        span: str,
        parent: str | None,
        seconds: float,
        attributes: Mapping[str, Value],
        *,
        failed: bool,
    ) -> None:
        """Record a span that ends now and took so long. `span` and `parent` are traceparents. Never raises."""
        ...

    def flush(self) -> None: ...


_exporter: Exporter | None = None


def export_spans_to(exporter: Exporter | None) -> None:
    """Have this process record spans from now on; or, with None, no more."""
    global _exporter
    _exporter = exporter


def flush_spans() -> None:
    """Send what was recorded: before a process ends without the usual ceremony."""
    if _exporter:
        _exporter.flush()


def current_trace() -> str | None:
    return _traceparent.get()


def trace_id() -> str | None:
    """The 32 hexadecimal digits that all parts of what is being done share."""
    _, _, rest = (_traceparent.get() or "").partition("-")
    return rest[:32] or None


def valid_traceparent(header: str | None) -> str | None:
    """A client's `traceparent` where it is valid."""
    found = _TRACEPARENT.fullmatch(header) if header else None
    return found[0] if found and not (found["version"] == "00" and found["later"]) else None


def accept_traceparent(header: str | None) -> str:
    """A client's `traceparent` where it is valid, else that of a new trace."""
    return valid_traceparent(header) or f"00-{_new_trace_id()}-{_new_span_id()}-00"


def tracing(traceparent: str | None) -> Scoped[str | None]:
    """What the block does, and the jobs it enqueues, belong to `traceparent`."""
    return Scoped(_traceparent, traceparent)


# These tell apart and keep no secret; asking the system for its randomness would cost ten times as much.
def _new_trace_id() -> str:
    return f"{random.getrandbits(128) or 1:032x}"


def _new_span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


def begin_span(parent: str | None) -> str | None:
    """The traceparent of a span that begins now, below `parent` (None, or what is not valid: it begins a trace); None
    where it is not recorded. The caller has it recorded by `end_span()`, at its end."""
    if _exporter is None:
        return None
    parent = valid_traceparent(parent)
    if not _exporter.samples(parent):
        return None
    trace = parent[3:35] if parent else _new_trace_id()
    return f"00-{trace}-{_new_span_id()}-01"


def end_span(
    name: str,
    kind: Kind,
    span: str,
    parent: str | None,
    seconds: float,
    attributes: Mapping[str, Value],
    *,
    failed: bool = False,
) -> None:
    """Record a span that ends now and took so long.

    `name` and `attributes` say what kind of thing was done, never to whom: no paths, no values, nothing that was sent.
    """
    if _exporter:
        _exporter.export(name, kind, span, valid_traceparent(parent), seconds, attributes, failed=failed)


def is_recording() -> bool:
    """Whether spans go anywhere."""
    return _exporter is not None


def record_statement(text: str, seconds: float, parent: str | None = None) -> None:
    """Record a statement that ended now, where what it is part of is recorded: `parent`, or what is being done.
    `text` has placeholders in place of values."""
    if _exporter is None or not is_sampled(parent := parent or _traceparent.get()):
        return
    assert parent
    operation = text.split(None, 1)[0].upper()
    table = _TABLE.search(text)
    attributes: dict[str, Value] = {
        "db.system.name": "postgresql",
        "db.operation.name": operation,
        "db.query.text": text[:_LONGEST_STATEMENT],
    }
    if table:
        attributes["db.collection.name"] = table[1]
    span = f"{parent[:36]}{_new_span_id()}-01"
    end_span(f"{operation} {table[1]}" if table else operation, "client", span, parent, seconds, attributes)


def is_sampled(traceparent: str | None) -> bool:
    """Whether what is done under it is recorded, here or by the sender."""
    return traceparent is not None and bool(int(traceparent[53:55], 16) & 1)


class Spanned:
    """`with Spanned(name, kind, attributes) as span:` the block is a span of what is being done, or of `parent`, where
    that is recorded; what is done in it is part of the span. Further attributes may be put into `span.attributes`."""

    __slots__ = ("_began", "_kind", "_name", "_parent", "_scope", "_span", "attributes", "failed")

    def __init__(self, name: str, kind: Kind, attributes: dict[str, Value], *, parent: str | None = None) -> None:
        self._name, self._kind, self.attributes, self._parent = name, kind, attributes, parent
        self.failed = False

    def __enter__(self) -> "Spanned":
        self._parent = self._parent or _traceparent.get()
        self._span = begin_span(self._parent)
        self._scope = tracing(self._span or self._parent)
        self._scope.__enter__()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._scope.__exit__()
        if self._span:
            seconds, failed = time.perf_counter() - self._began, self.failed or error is not None
            end_span(self._name, self._kind, self._span, self._parent, seconds, self.attributes, failed=failed)
