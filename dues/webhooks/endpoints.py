"""Endpoints: registered, changed, given a new secret, disabled, deleted. Each function is part of its caller's
transaction.

A change of which endpoints of a store are enabled holds the lock of the store's event stream, and so does the writing
of an event: after the commit of an endpoint no event of the store is passed on without it.

No name is resolved here, where a resolver that does not answer would hold a thread and a transaction: each delivery
resolves and vets the name that it sends to.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType, field
from sqlalchemy import func, select

from dues.breaker import WEBHOOKS, reset_circuit
from dues.clock import rfc3339
from dues.errors import Conflict, NotFound, ValidationFailed
from dues.events import EVENT_TYPES, EventType
from dues.ids import new_id
from dues.postgres import database_now, db, fetch_row
from dues.reads.tags import touch
from dues.settings import settings
from dues.text import OneLine
from dues.webhooks import alerts, schedule
from dues.webhooks.models import Endpoint
from dues.webhooks.outbound import MAX_URL, BadTarget, parse_target
from dues.webhooks.signing import write_secret

# Each is one more delivery for each of a store's events.
MOST_ENDPOINTS = 20
# How long a secret that was replaced goes on signing.
OVERLAP = timedelta(hours=24)
# Most secrets of an endpoint that sign at once: each adds 47 characters to a header of every attempt.
MOST_SECRETS = 5

Url = Annotated[str, Meta(min_length=1, max_length=MAX_URL, description="URL of an endpoint")]
Description = Annotated[OneLine, Meta(max_length=500)]
Wanted = Annotated[
    list[Literal[EventType, "*"]],
    Meta(min_length=1, max_length=len(EVENT_TYPES), description="types of events, or `*` for all"),
]

_LOCK_STREAM = """
    insert into event_streams as s (store_id) values (%(store_id)s)
    on conflict (store_id) do update set listened = s.listened returning store_id
"""
# In a statement after the lock's, so that it sees what the lock's previous holder has committed.
_NOTE_LISTENED = """
    update event_streams set listened = exists (
        select 1 from webhook_endpoints where store_id = %(store_id)s and enabled and deleted_at is null)
    where store_id = %(store_id)s returning listened
"""


class NewWebhookEndpoint(Struct, forbid_unknown_fields=True):
    """A URL that is to be told of events: of all, unless `events` names types."""

    url: Url
    events: Wanted = field(default_factory=lambda: ["*"])
    description: Description = ""
    enabled: bool = True


class WebhookEndpointChange(Struct, forbid_unknown_fields=True):
    """Enabling an endpoint again forgets how it failed; what it missed can be replayed."""

    url: Url | UnsetType = UNSET
    events: Wanted | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


def create_endpoint(store_id: UUID, new: NewWebhookEndpoint, seed: bytes) -> Endpoint:
    """`seed` is what its secret is made of.

    Raises: ValidationFailed for a URL that no request will be sent to; Conflict where the store has too many.
    """
    _check_url(new.url)
    _lock_stream(store_id)
    count = select(func.count()).where(Endpoint.store_id == store_id, Endpoint.deleted_at.is_(None))
    if (db.session.scalar(count) or 0) >= MOST_ENDPOINTS:
        raise Conflict(f"a store has at most {MOST_ENDPOINTS} webhook endpoints", code="too_many_webhook_endpoints")
    endpoint_id = new_id()
    endpoint = Endpoint(
        store_id=store_id,
        id=endpoint_id,
        url=new.url,
        events=_in_order(new.events),
        description=new.description,
        enabled=new.enabled,
        secret=write_secret(seed, endpoint_id),
    )
    db.session.add(endpoint)
    _changed(endpoint)
    return endpoint


def get_endpoint(store_id: UUID, endpoint_id: UUID) -> Endpoint:
    """The endpoint, locked for this transaction against other changes; deliveries to it can be written meanwhile.
    Raises: NotFound."""
    endpoint = db.session.get(
        Endpoint, (store_id, endpoint_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if endpoint is None or endpoint.deleted_at:
        raise NotFound("there is no such webhook endpoint")
    return endpoint


def change_endpoint(endpoint: Endpoint, change: WebhookEndpointChange) -> None:
    """Raises: ValidationFailed for a URL that no request will be sent to."""
    if change.url is not UNSET:
        _check_url(change.url)
    _lock_stream(endpoint.store_id)
    if change.url is not UNSET:
        endpoint.url = change.url
    if change.events is not UNSET:
        endpoint.events = _in_order(change.events)
    if change.description is not UNSET:
        endpoint.description = change.description
    if change.enabled is not UNSET:
        endpoint.enabled = change.enabled
        endpoint.disabled_reason = endpoint.failing_since = endpoint.alerted_at = None
    _changed(endpoint)
    reset_circuit(circuit_name(endpoint.id))


def rotate_secret(endpoint: Endpoint, seed: bytes) -> None:
    """A new secret. The present one goes on signing beside it for a day, and so do those before it until their day is
    over: a receiver that has any of them never rejects what it is sent.

    Raises: Conflict where that would be more than MOST_SECRETS: dropping one would lock its receiver out.
    """
    moment = database_now()
    older = [*endpoint.older_secrets]
    if endpoint.previous_secret and endpoint.previous_secret_until:
        older.append({"secret": endpoint.previous_secret, "until": rfc3339(endpoint.previous_secret_until)})
    older = [old for old in older if datetime.fromisoformat(old["until"]) > moment]
    if len(older) + 2 > MOST_SECRETS:
        raise Conflict(
            f"{MOST_SECRETS} secrets of this endpoint still sign: one can be added from {older[0]['until']} on",
            code="too_many_webhook_secrets",
        )
    endpoint.older_secrets = older
    endpoint.previous_secret, endpoint.previous_secret_until = endpoint.secret, moment + OVERLAP
    endpoint.secret = write_secret(seed, endpoint.id)
    touch(*_tags(endpoint))


def delete_endpoint(endpoint: Endpoint) -> None:
    """What was delivered to it can still be read; its secrets are gone."""
    _lock_stream(endpoint.store_id)
    endpoint.deleted_at, endpoint.enabled = database_now(), False
    endpoint.secret, endpoint.previous_secret, endpoint.older_secrets = "", None, []
    _changed(endpoint)
    reset_circuit(circuit_name(endpoint.id))


def require_enabled(endpoint: Endpoint) -> None:
    """Raises: Conflict."""
    if not endpoint.enabled:
        raise Conflict("the webhook endpoint is disabled: enable it first", code="webhook_endpoint_disabled")


def note_success(store_id: UUID, endpoint_id: UUID) -> None:
    """An endpoint that had failed works again."""
    with suppress(NotFound):
        endpoint = get_endpoint(store_id, endpoint_id)
        endpoint.failing_since = endpoint.alerted_at = None
        touch(*_tags(endpoint))


def note_failure(store_id: UUID, endpoint_id: UUID, *, exhausted: bool = False) -> None:
    """Count an attempt that has failed, or with `exhausted` a delivery all of whose attempts have, against an endpoint:
    once that goes on for long the store's owner is told, and at last the endpoint is disabled."""
    with suppress(NotFound):
        endpoint = get_endpoint(store_id, endpoint_id)
        if not endpoint.enabled:
            return
        moment = database_now()
        endpoint.failing_since = endpoint.failing_since or moment
        touch(*_tags(endpoint))
        failing_for = moment - endpoint.failing_since
        if schedule.is_hopeless(failing_for):
            _disable(endpoint, "failing")
        elif endpoint.alerted_at is None and (exhausted or schedule.is_alarming(failing_for)):
            endpoint.alerted_at = moment
            alerts.notify_failing(endpoint)


def disable_gone(store_id: UUID, endpoint_id: UUID) -> None:
    """Its receiver has said that it is gone for good (410)."""
    with suppress(NotFound):
        endpoint = get_endpoint(store_id, endpoint_id)
        if endpoint.enabled:
            _disable(endpoint, "gone")


def _disable(endpoint: Endpoint, reason: Literal["gone", "failing"]) -> None:
    _lock_stream(endpoint.store_id)
    endpoint.enabled, endpoint.disabled_reason = False, reason
    _changed(endpoint)
    alerts.notify_disabled(endpoint)


def circuit_name(endpoint_id: UUID) -> str:
    """The name of an endpoint's circuit breaker."""
    return f"{WEBHOOKS}{endpoint_id}"


def _check_url(url: str) -> None:
    """Scheme, port, and addresses that are written out. Raises: ValidationFailed."""
    try:
        parse_target(url, settings().webhook_allowed_hosts)
    except BadTarget as bad:
        raise ValidationFailed.of("#/url", str(bad), bad.code) from bad


def _in_order(events: Sequence[str]) -> list[str]:
    return ["*"] if "*" in events else [event_type for event_type in EVENT_TYPES if event_type in events]


def _lock_stream(store_id: UUID) -> None:
    fetch_row(_LOCK_STREAM, {"store_id": store_id})


def _changed(endpoint: Endpoint) -> None:
    db.session.flush()
    fetch_row(_NOTE_LISTENED, {"store_id": endpoint.store_id})
    touch(*_tags(endpoint))


def _tags(endpoint: Endpoint) -> tuple[str, ...]:
    return (f"store:{endpoint.store_id}:webhooks",)
