"""Spans as OpenTelemetry has them, exported by its SDK: imported only where OTEL_* asks for them (`start_spans()`).

The SDK's tracer is not used, since asking it costs a fifth of a cached answer even where it decides not to sample:
whether to record is decided here, by the same variables and the same rules, and a span is made when it is over.
"""

import atexit
import time
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from dues import VERSION
from dues.observability.otel import Sampler, batches_of
from dues.observability.trace import Kind, Value

_KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "consumer": SpanKind.CONSUMER}
_SCOPE = InstrumentationScope("dues", VERSION)
_FLUSH_MS = 2000


class SpanExporter:
    """Hands spans to a processor of the SDK, which sends them from a thread of its own and never keeps anybody waiting:
    those that do not fit into its queue are lost."""

    def __init__(self, sampler: Sampler, processor: SpanProcessor, resource: Resource) -> None:
        self.samples = sampler.samples
        self._processor, self._resource = processor, resource

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
        end = time.time_ns()
        self._processor.on_end(
            ReadableSpan(
                name,
                _context_of(span, is_remote=False),
                _context_of(parent, is_remote=kind == "server") if parent else None,
                self._resource,
                attributes,
                kind=_KINDS[kind],
                status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
                start_time=end - int(seconds * 1e9),
                end_time=end,
                instrumentation_scope=_SCOPE,
            )
        )

    def flush(self) -> None:
        self._processor.force_flush(_FLUSH_MS)


def _context_of(traceparent: str, *, is_remote: bool) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")[:4]
    return SpanContext(int(trace, 16), int(span, 16), is_remote, TraceFlags(int(flags, 16)))


def exporter_of(environ: Mapping[str, str]) -> SpanExporter:
    """What OTEL_* asks for, which `check_otel()` has found right."""
    batches = batches_of(environ)
    processor = BatchSpanProcessor(
        OTLPSpanExporter(),
        max_queue_size=batches.max_queue_size,
        schedule_delay_millis=batches.schedule_delay,
        max_export_batch_size=batches.max_export_batch_size,
        export_timeout_millis=batches.export_timeout,
    )
    atexit.register(processor.shutdown)
    return SpanExporter(Sampler(environ), processor, resource_of(environ))


def resource_of(environ: Mapping[str, str]) -> Resource:
    """What all spans say of their process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES may say otherwise."""
    is_named = environ.get("OTEL_SERVICE_NAME") or f"{SERVICE_NAME}=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    own = {SERVICE_VERSION: VERSION} if is_named else {SERVICE_NAME: "dues", SERVICE_VERSION: VERSION}
    return Resource.create(own)
