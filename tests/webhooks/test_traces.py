"""Traces: a request, its statements, its jobs and its webhook are one, with nothing in it that anybody sent."""

import gzip
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from dues.observability import otel, trace
from tests.factory import Factory
from tests.observability.otel import imported, packages
from tests.serve_web import ROOT
from tests.servers import Servers, wait_until
from tests.webhooks.hooks import Hooks
from tests.webhooks.receiver import Receiver
from tests.webserver import WebServer

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CLIENT}-01", f"00-{TRACE}-{CLIENT}-00"
# The amount is long enough to be in no random id and no port by chance.
PACKAGE = {"name": "Zanzibar", "amount": 471_193_622, "interval": "month"}

# Of the SDK.
Span: TypeAlias = Any
Memory: TypeAlias = Any
Record = Callable[..., Memory]


@pytest.fixture
def spans() -> Any:
    """The module that imports the SDK."""
    return imported("dues.observability.spans")


@pytest.fixture
def record(spans: Any) -> Iterator[Record]:
    """`record(OTEL_TRACES_SAMPLER=…)` has this process's spans be kept in memory."""

    def begin(**environ: str) -> Memory:
        memory = imported("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
        processor = imported("opentelemetry.sdk.trace.export").SimpleSpanProcessor(memory)
        trace.export_spans_to(spans.SpanExporter(spans.Sampler(environ), processor, spans.resource_of(environ)))
        return memory

    yield begin
    trace.export_spans_to(None)


def named(spans: tuple[Span, ...]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def parent_of(span: Span) -> int:
    return int(span.parent.span_id)


def id_of(span: Span) -> int:
    return int(span.context.span_id)


def test_a_request_its_statements_its_jobs_and_its_webhook_are_one_trace(hooks: Hooks, record: Record):
    hooks.register()
    memory = record()
    hooks.send("POST", "/packages", PACKAGE, traceparent=SAMPLED)
    hooks.work.drain()

    ours = tuple(span for span in memory.get_finished_spans() if span.context.trace_id == int(TRACE, 16))
    found = named(ours)
    request, fan_out = found["POST /v1/stores/{store_id}/packages"], found["job webhook.fan_out"]
    delivery, call = found["job webhook.deliver"], found["POST webhook"]
    assert f"{parent_of(request):x}" == CLIENT
    assert [parent_of(fan_out), parent_of(delivery), parent_of(call)] == [
        id_of(request),
        id_of(fan_out),
        id_of(delivery),
    ]
    kinds = [span.kind.name for span in (request, fan_out, delivery, call)]
    assert kinds == ["SERVER", "CONSUMER", "CONSUMER", "CLIENT"]
    # The receiver goes on from the call itself.
    assert hooks.receiver.calls[0].headers["traceparent"] == f"00-{TRACE}-{id_of(call):016x}-01"
    under = {
        parent: [s.name for s in ours if s.parent and s.parent.span_id == id_of(parent)] for parent in found.values()
    }
    assert {"INSERT packages", "INSERT jobs", "COMMIT"} <= set(under[request])
    assert "COMMIT" in under[delivery]
    for span in ours:
        assert 0 < span.start_time <= span.end_time
    assert request.attributes["http.response.status_code"] == 201
    assert call.attributes["http.response.status_code"] == 204
    assert request.resource.attributes["service.name"] == "dues"


def test_a_webhook_that_fails_is_a_span_that_failed(hooks: Hooks, record: Record):
    hooks.register()
    hooks.receiver.always(500)
    memory = record()
    hooks.send("POST", "/packages", PACKAGE, traceparent=SAMPLED)
    hooks.work.drain()

    found = named(memory.get_finished_spans())
    assert not found["POST webhook"].status.is_ok
    assert found["POST webhook"].attributes["error.type"] == "status"
    assert found["POST /v1/stores/{store_id}/packages"].status.is_unset


def test_nothing_that_was_sent_is_in_a_span(hooks: Hooks, record: Record):
    memory = record()
    hooks.register()
    hooks.send("POST", "/packages", PACKAGE, X_Request_Id="olga-and-her-cat")
    hooks.send("GET", "/packages?name=Zanzibar&per_page=7")
    hooks.send("GET", "/nowhere/Zanzibar")
    hooks.client.post("/v1/tokens", json={"email": "olga@example.com", "password": "hunter2 hunter2", "name": "x"})
    hooks.work.drain()

    text = "".join(span.to_json() for span in memory.get_finished_spans())
    assert text.count('"name": "') > 20
    token = hooks.auth["Authorization"].partition(" ")[2]
    secrets = (
        "Zanzibar",
        str(PACKAGE["amount"]),
        token,
        "olga",
        "hunter2",
        "Olga",
        str(hooks.store.id),
        "k=1",
        "whsec_",
    )
    assert [secret for secret in secrets if secret in text] == []


@pytest.mark.parametrize(
    ("sampler", "share", "parent", "samples"),
    [
        ("", "", None, True),
        ("", "", SAMPLED, True),
        ("", "", UNSAMPLED, False),
        ("always_on", "", UNSAMPLED, True),
        ("always_off", "", SAMPLED, False),
        ("parentbased_always_off", "", None, False),
        ("parentbased_always_off", "", SAMPLED, True),
        ("parentbased_traceidratio", "0", None, False),
        ("parentbased_traceidratio", "1", None, True),
        ("parentbased_traceidratio", "1", UNSAMPLED, False),
        ("parentbased_traceidratio", "0", SAMPLED, True),
        # The lower half of this trace's id is 0.52 of what it may be.
        ("traceidratio", "0.51", SAMPLED, False),
        ("traceidratio", "0.53", UNSAMPLED, True),
    ],
)
def test_what_is_sampled(spans: Any, sampler: str, share: str, parent: str | None, samples: bool):
    environ = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": share}
    assert spans.Sampler(environ).samples(parent) is samples


def test_a_share_of_the_traces_that_begin_here(spans: Any):
    sampler = spans.Sampler({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"})
    assert 500 < sum(sampler.samples(None) for _ in range(10_000)) < 1500


def test_what_cannot_be_done_is_said_and_no_more(caplog: pytest.LogCaptureFixture):
    """Without the packages, or with another way to send spans."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    otel.start_spans({**endpoint, "OTEL_TRACES_EXPORTER": "console"})
    otel.start_spans({**endpoint, "OTEL_TRACES_EXPORTER": "none"})
    otel.start_spans({**endpoint, "OTEL_SDK_DISABLED": "true"})
    assert [record.getMessage() for record in caplog.records] == [
        "no spans are recorded: OTEL_TRACES_EXPORTER may be otlp or none here"
    ]
    assert trace.begin_span(SAMPLED) is None


def test_what_is_not_sampled_goes_on_as_it_came(hooks: Hooks, record: Record):
    memory = record(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    hooks.register()
    hooks.send("POST", "/packages", PACKAGE, traceparent=UNSAMPLED)
    hooks.work.drain()

    assert memory.get_finished_spans() == ()
    assert hooks.receiver.calls[0].headers["traceparent"] == UNSAMPLED


def test_without_being_asked_for_none_of_it_is_imported():
    """redis-py imports some of it wherever it is installed."""
    program = (
        "import wsgi, sys; print(sorted({'dues.observability.spans', 'opentelemetry.exporter'} & set(sys.modules)))"
    )
    environ = {"DATABASE_URL": "postgresql://x/x", "REDIS_URL": "redis://x", "SECRET_KEY": "k" * 32}
    environ |= {"PYTHONPATH": str(packages()), "OTEL_SERVICE_NAME": "dues"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environ, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


class OwnPython(WebServer):
    """A web server of a Python of its own, which finds the packages."""

    def __enter__(self) -> "OwnPython":
        argv = [sys.executable, "-m", "gunicorn", *self._arguments]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(  # type: ignore[assignment]
                argv, cwd=ROOT, env=self._environ, stdout=log, stderr=log
            )
        wait_until(self._is_up, 30, "the web server")
        return self


@pytest.mark.one_server("there is no cache, and so no request without a statement")
def test_a_web_server_sends_its_spans(servers: Servers, make: Factory, receiver: Receiver):
    owner = make.user()
    store = make.store(owner)
    environ: dict[str, Any] = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_SERVICE_NAME": "club",
        "PYTHONPATH": str(packages()),
    }
    auth = make.auth(owner)
    with OwnPython(servers, **environ) as web:
        for number in range(4):
            fields = {**auth, "traceparent": f"00-{number + 1:032x}-{CLIENT}-01"}
            address = f"{web.url}/v1/stores/{store.id}/packages"
            with urllib.request.urlopen(urllib.request.Request(address, headers=fields)) as answer:
                assert answer.status == 200
        wait_until(lambda: len(servers_spans(receiver)) == 4, 20, "the spans of four requests")

    spans = all_spans(receiver)
    requests = {int.from_bytes(span.trace_id, "big"): span for span in spans if span.kind == 2}
    assert {span.name for span in requests.values()} == {"GET /v1/stores/{store_id}/packages"}
    # The first on a thread, the second on the loop, by a statement each or more; the others from the cache.
    statements = [int.from_bytes(span.trace_id, "big") for span in spans if span.kind == 3]
    assert 1 in statements
    assert 4 not in statements
    for span in spans:
        if span.kind == 3:
            assert span.parent_span_id == requests[int.from_bytes(span.trace_id, "big")].span_id


def all_spans(receiver: Receiver) -> list[Any]:
    request = imported("opentelemetry.proto.collector.trace.v1.trace_service_pb2").ExportTraceServiceRequest
    found = []
    for call in list(receiver.calls):
        body = gzip.decompress(call.body) if call.headers.get("content-encoding") == "gzip" else call.body
        document = request.FromString(body)
        assert call.path == "/v1/traces"
        for resource in document.resource_spans:
            assert json.dumps("club") in str(resource.resource)
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def servers_spans(receiver: Receiver) -> list[Any]:
    return [span for span in all_spans(receiver) if span.kind == 2]
