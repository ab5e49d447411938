"""One attempt at a delivery, and the only place where a delivery's status changes.

    pending -> succeeded | failed

The receiver is called outside of transactions, and may be called twice for one event: it recognises that by
`webhook-id`. A delivery has succeeded when a 2xx came. It has failed when its job has: out of attempts, or because its
endpoint is gone or disabled; what was missed can be replayed.

An endpoint that does not answer is left alone for a while by a circuit breaker of its own. Only attempts that were made
count against an endpoint (`failing_since`), never those that were put off.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import ujson

from dues import VERSION
from dues.breaker import Circuit
from dues.clock import now, rfc3339
from dues.errors import Problem
from dues.failpoints import failpoint
from dues.jobs import Ending, PermanentFailure, Retry, Run, kinds, when_ended
from dues.observability.trace import Spanned, Value, current_trace
from dues.postgres import fetch_row, is_spread, transaction
from dues.postgres.connection import Row
from dues.settings import settings
from dues.webhooks import schedule
from dues.webhooks.endpoints import circuit_name, disable_gone, note_failure, note_success
from dues.webhooks.hosts import hosts
from dues.webhooks.outbound import BadTarget, NoReply, Target, parse_target, post
from dues.webhooks.signing import signed_headers
from dues.webhooks.waiting import LONGEST, put_off

# Few enough that the remaining deliveries keep the host's places in use.
_MOST_MAKE_WAY = 20

_LOAD = """
    select d.status, jsonb_array_length(d.attempts), w.id, w.url, w.enabled, w.failing_since is not null,
        array[w.secret] || case when w.previous_secret_until > now() then array[w.previous_secret] else '{{}}' end
            || array(select old ->> 'secret' from jsonb_array_elements(w.older_secrets) old
                     where (old ->> 'until')::timestamptz > now()),
        {columns}
    from webhook_deliveries d
    join webhook_endpoints w on w.store_id = d.store_id and w.id = d.endpoint_id {event}
    where d.store_id = %(store_id)s and d.id = %(delivery_id)s
"""
_EVENT = "e.id, e.seq, e.type, e.created_at, e.data::text"
# Look the event up by the delivery that was found, whatever the planner estimates about the store's other events.
_LOAD_WITH_EVENT = _LOAD.format(
    columns=_EVENT,
    event="""cross join lateral (
        select * from events where store_id = d.store_id and seq = d.seq and id = d.event_id limit 1) e""",
)
# Where the database is spread, the two are on two servers, which one statement cannot ask.
_LOAD_ALONE = _LOAD.format(columns="d.seq, d.event_id", event="")
_LOAD_EVENT = (
    f"select {_EVENT} from events e where e.store_id = %(store_id)s and e.seq = %(seq)s and e.id = %(event_id)s"
)
_UPDATE = """
    update webhook_deliveries set status = coalesce(%(status)s, status), version = version + 1,
        failure_code = %(failure_code)s,
        attempts = case when %(attempt)s is null then attempts
                        else attempts || jsonb_build_array(%(attempt)s::jsonb) end,
        (updated_at, next_attempt_at) = (
            select now, now + make_interval(secs => %(wait_s)s) from (select clock_timestamp() as now offset 0) clock)
    where store_id = %(store_id)s and id = %(delivery_id)s and status = 'pending' returning endpoint_id
"""


class DeliveryFailed(Problem):
    """Why an attempt, or in the end a delivery, came to nothing; `code` is the delivery's `failure_code`."""

    status, title, code = 502, "The webhook was not delivered", "webhook_not_delivered"


@dataclass(frozen=True)
class Due:
    """A delivery with all that an attempt needs. `secrets`: the present one, and those before that still sign."""

    store_id: UUID
    delivery_id: UUID
    status: str
    attempts: int
    endpoint_id: UUID
    url: str
    enabled: bool
    failing: bool
    secrets: tuple[str, ...]
    event_id: UUID
    body: bytes


@dataclass(frozen=True)
class Attempt:
    """One call of the receiver: what came of it. `failure_code` is None where it succeeded."""

    duration_s: float
    status_code: int | None = None
    failure_code: str | None = None
    detail: str = ""
    response: str = ""
    retry_after_s: float = 0.0

    def document(self) -> str:
        """As the delivery keeps it."""
        shown = {
            "at": rfc3339(now() - timedelta(seconds=self.duration_s)),
            "duration_ms": round(self.duration_s * 1000),
            "status_code": self.status_code,
            "failure_code": self.failure_code,
            "response": self.response,
        }
        return ujson.dumps(shown, ensure_ascii=False, escape_forward_slashes=False)


def deliver(run: Run, store_id: UUID, delivery_id: UUID) -> None:
    """Make one attempt. Raises: Retry at the schedule's next time; PermanentFailure."""
    due = _load(store_id, delivery_id)
    if due is None or due.status != "pending":
        run.complete(None)
        return
    if not due.enabled:
        raise PermanentFailure(DeliveryFailed("the endpoint is disabled", code="endpoint_disabled"))
    try:
        target = parse_target(due.url, settings().webhook_allowed_hosts)
    except BadTarget as bad:
        _schedule_retry(run, due, Attempt(0.0, failure_code=bad.code, detail=f"the URL {bad}"))
    circuit = _circuit(due)
    if circuit.wait_s():
        _wait_for_endpoint(due)
    with hosts.place(target.host, store_id, settings().webhooks_per_host) as is_free:
        if not is_free:
            _make_way(due)
        run.check()
        failpoint("webhook.before_post")
        attempt = _attempt(due, target)
    failpoint("webhook.after_post")
    # A receiver that answers is up, whatever the status.
    if attempt.status_code is None:
        circuit.failed()
    else:
        circuit.succeeded()
    if attempt.failure_code:
        _schedule_retry(run, due, attempt)
    with run.completion(
        {"href": f"/v1/stores/{store_id}/webhook-deliveries/{delivery_id}", "type": "application/json"}
    ):
        _update(due, status="succeeded", attempt=attempt)
        if due.failing:
            note_success(store_id, due.endpoint_id)


def _load(store_id: UUID, delivery_id: UUID) -> Due | None:
    row = _row(store_id, delivery_id)
    if row is None:
        return None
    status, attempts, endpoint_id, url, enabled, failing, secrets, event_id, seq, event_type, created_at, data = row
    body = (
        f'{{"type":"{event_type}","timestamp":"{rfc3339(created_at)}","store_id":"{store_id}","seq":{seq},'
        f'"data":{data}}}'
    ).encode()
    return Due(
        store_id, delivery_id, status, attempts, endpoint_id, url, enabled, failing, tuple(secrets), event_id, body
    )


def _row(store_id: UUID, delivery_id: UUID) -> Row | None:
    """A delivery with its endpoint and its event."""
    values = {"store_id": store_id, "delivery_id": delivery_id}
    if not is_spread():
        return fetch_row(_LOAD_WITH_EVENT, values)
    found = fetch_row(_LOAD_ALONE, values)
    if found is None:
        return None
    *delivery, seq, event_id = found
    event = fetch_row(_LOAD_EVENT, {"store_id": store_id, "seq": seq, "event_id": event_id})
    return (*delivery, *event) if event else None


def _circuit(due: Due) -> Circuit:
    """The endpoint's own: one path of a host says nothing about another path, which may be another store's."""
    first_s, longest_s = schedule.rests_s()
    return Circuit(
        circuit_name(due.endpoint_id),
        first_s=first_s,
        longest_s=longest_s,
        probe_s=2 * settings().webhook_timeout_s,
    )


def _attempt(due: Due, target: Target) -> Attempt:
    told: dict[str, Value] = {"http.request.method": "POST", "server.address": target.host, "server.port": target.port}
    with Spanned("POST webhook", "client", told) as span:
        attempt = _send(due, target)
        if attempt.status_code:
            span.attributes["http.response.status_code"] = attempt.status_code
        if attempt.failure_code:
            span.attributes["error.type"], span.failed = attempt.failure_code, True
        return attempt


def _send(due: Due, target: Target) -> Attempt:
    timestamp, started = int(now().timestamp()), time.monotonic()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"Dues/{VERSION}",
        **signed_headers(due.secrets, due.event_id, timestamp, due.body),
    }
    if trace := current_trace():
        headers["traceparent"] = trace
    try:
        reply = post(target, due.body, headers, timeout_s=settings().webhook_timeout_s)
    except (BadTarget, NoReply) as failure:
        return Attempt(time.monotonic() - started, failure_code=failure.code, detail=str(failure))
    duration_s = time.monotonic() - started
    if 200 <= reply.status < 300:
        return Attempt(duration_s, reply.status, response=reply.body)
    code = {410: "gone"}.get(reply.status, "redirect" if 300 <= reply.status < 400 else "status")
    detail = f"the receiver answered {reply.status}"
    return Attempt(duration_s, reply.status, code, detail, reply.body, reply.retry_after_s)


def _schedule_retry(run: Run, due: Due, attempt: Attempt) -> NoReturn:
    """Record an attempt that failed. Raises: Retry; PermanentFailure where the receiver is gone for good."""
    problem = DeliveryFailed(attempt.detail, code=attempt.failure_code or "")
    wait_s = schedule.wait_s(run.attempt, attempt.retry_after_s)
    is_gone = attempt.failure_code == "gone"
    with transaction():
        _update(due, attempt=attempt, failure_code=attempt.failure_code, wait_s=None if is_gone else wait_s)
        if is_gone:
            disable_gone(due.store_id, due.endpoint_id)
        else:
            note_failure(due.store_id, due.endpoint_id)
    if is_gone:
        raise PermanentFailure(problem)
    raise Retry(wait_s, problem)


def _wait_for_endpoint(due: Due) -> NoReturn:
    """The endpoint does not answer: this delivery, and what else is due to it, waits until it is asked again. Raises:
    Retry, which is not one of the delivery's attempts."""
    with transaction():
        _update(due, failure_code="circuit_open")
        put_off(due.store_id, due.endpoint_id, "circuit_open", wait_s=None)
    problem = DeliveryFailed("the receiver does not answer", code="circuit_open")
    raise Retry(LONGEST.total_seconds(), problem, charged=False)


def _make_way(due: Due) -> NoReturn:
    """Other deliveries use all places of the endpoint's host: this one is tried again soon, and so are some that would
    be next. Raises: Retry, which is not one of the delivery's attempts."""
    wait_s = schedule.spread(schedule.BUSY_S)
    with transaction():
        _update(due, failure_code="host_busy", wait_s=wait_s)
        put_off(due.store_id, due.endpoint_id, "host_busy", wait_s=wait_s, most=_MOST_MAKE_WAY)
    raise Retry(wait_s, DeliveryFailed("many deliveries to its host are under way", code="host_busy"), charged=False)


@when_ended(kinds.WEBHOOK_DELIVER)
def give_up(ending: Ending) -> None:
    """The job has failed, and so has its delivery. Where no attempt was recorded, as when each took its worker down,
    that says nothing about the receiver."""
    due = _load(UUID(ending.args["store_id"]), UUID(ending.args["delivery_id"]))
    if due is None or due.status != "pending":
        return
    code = str((ending.error or {}).get("type", "")).removeprefix("/problems/") or None
    _update(due, status="failed", failure_code=code)
    if due.enabled and due.attempts:
        note_failure(due.store_id, due.endpoint_id, exhausted=True)


def _update(
    due: Due,
    *,
    status: str | None = None,
    attempt: Attempt | None = None,
    failure_code: str | None = None,
    wait_s: float | None = None,
) -> None:
    """Record what has become of a delivery: the one function that does. Part of the caller's transaction()."""
    values: dict[str, Any] = {
        "store_id": due.store_id,
        "delivery_id": due.delivery_id,
        "status": status,
        "attempt": attempt.document() if attempt else None,
        "failure_code": failure_code,
        "wait_s": wait_s,
    }
    fetch_row(_UPDATE, values)
