"""What may be read of events, endpoints and deliveries; secrets are no part of it."""

from collections.abc import Mapping

from dues.billing.reads import credit_notes, invoices, subscriptions
from dues.documents.reads import documents
from dues.events import EVENT_TYPES, EventType
from dues.imports.reads import imports
from dues.packages.reads import packages
from dues.payments.reads import payment_methods, payments, refunds
from dues.reads import Computed, Equal, One, Range, Resource
from dues.reads.resource import Schema, links_schema
from dues.reports.reads import reports
from dues.social.reads import follows, told_comments, told_posts
from dues.webhooks.models import Delivery, Endpoint, Event

# What each event shows; `emit()` is given the same.
SHOWN: Mapping[EventType, Resource] = {
    event_type: {
        "payment": payments,
        "refund": refunds,
        "document": documents,
        "package": packages,
        "report": reports,
        "import": imports,
        "post": told_posts,
        "comment": told_comments,
        "follow": follows,
        "subscription": subscriptions,
        "invoice": invoices,
        "credit_note": credit_notes,
        "payment_method": payment_methods,
    }[event_type.partition(".")[0]]
    for event_type in EVENT_TYPES
}

_TYPE: Schema = {"type": "string", "enum": list(EVENT_TYPES)}
_DATA: Schema = {
    "type": "object",
    "description": "what the event is about (a payment, a subscription, a post, …) as a GET answered it then; where "
    "that would make the event larger than 20 kB, `id` and `links` alone",
}
_ATTEMPTS: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "duration_ms": {"type": "integer", "minimum": 0},
            "status_code": {"type": ["integer", "null"], "description": "null where there was no answer"},
            "failure_code": {"type": ["string", "null"], "description": "null where it succeeded"},
            "response": {"type": "string", "description": "the beginning of the answer's body"},
        },
    },
}
_STORE = "'/v1/stores/' || {store_id} || "
STATUSES = ("pending", "succeeded", "failed")

# Events and deliveries are never kept in a cache: workers write them all the time.
events = Resource(
    "Event",
    Event,
    fields={
        "id": Event.id,
        "store_id": Event.store_id,
        "seq": Event.seq,
        "type": Computed("{type}", _TYPE),
        "timestamp": Event.created_at,
        "data": Computed("{data}", _DATA),
        "links": Computed(f"json_build_object('self', {_STORE}'/events?seq=' || {{seq}})", links_schema("self")),
    },
    filters={"seq": Range(Event.seq), "timestamp": Range(Event.created_at)},
    sorts={"seq": Event.seq},
    default_sort="seq",
    key="seq",
    tags=lambda scope: (),
)

endpoints = Resource(
    "WebhookEndpoint",
    Endpoint,
    fields={
        "id": Endpoint.id,
        "store_id": Endpoint.store_id,
        "url": Endpoint.url,
        "description": Endpoint.description,
        "events": Endpoint.events,
        "enabled": Endpoint.enabled,
        "disabled_reason": Computed(
            "{disabled_reason}", {"type": ["string", "null"], "enum": ["gone", "failing", None]}
        ),
        "failing_since": Endpoint.failing_since,
        "previous_secret_until": Endpoint.previous_secret_until,
        "version": Endpoint.version,
        "created_at": Endpoint.created_at,
        "updated_at": Endpoint.updated_at,
        "links": Computed(
            f"json_build_object('self', {_STORE}'/webhook-endpoints/' || {{id}},"
            f" 'deliveries', {_STORE}'/webhook-deliveries?endpoint_id=' || {{id}})",
            links_schema("self", "deliveries"),
        ),
    },
    sorts={"created_at": Endpoint.created_at},
    where="{deleted_at} is null",
    tags=lambda scope: (f"store:{scope['store_id']}:webhooks",),
)

# For the one answer that shows the secret, which the route fills in.
issued_endpoints = Resource(
    "IssuedWebhookEndpoint",
    Endpoint,
    fields={
        **endpoints.fields,
        "secret": Computed("''::text", {"type": "string", "description": "verifies signatures; shown only here"}),
    },
    where=endpoints.where,
    tags=endpoints.tags,
)

deliveries = Resource(
    "WebhookDelivery",
    Delivery,
    fields={
        "id": Delivery.id,
        "store_id": Delivery.store_id,
        "endpoint_id": Delivery.endpoint_id,
        "event_id": Delivery.event_id,
        "event_type": Computed("{event_type}", _TYPE),
        "seq": Delivery.seq,
        "status": Computed("{status}", {"type": "string", "enum": list(STATUSES)}),
        "failure_code": Delivery.failure_code,
        "attempts": Computed("{attempts}", _ATTEMPTS),
        "next_attempt_at": Delivery.next_attempt_at,
        "version": Delivery.version,
        "created_at": Delivery.created_at,
        "updated_at": Delivery.updated_at,
        "links": Computed(
            f"json_build_object('self', {_STORE}'/webhook-deliveries/' || {{id}},"
            f" 'event', {_STORE}'/events?seq=' || {{seq}}, 'job', '/v1/jobs/' || {{job_id}})",
            links_schema("self", "event", "job"),
        ),
    },
    includes={
        "endpoint": One(endpoints, {Endpoint.store_id: Delivery.store_id, Endpoint.id: Delivery.endpoint_id}),
        "event": One(
            events,
            {Event.store_id: Delivery.store_id, Event.seq: Delivery.seq, Event.id: Delivery.event_id},
            is_elsewhere=True,
        ),
    },
    filters={
        "status": Equal(Delivery.status, STATUSES),
        "endpoint_id": Equal(Delivery.endpoint_id),
        "created_at": Range(Delivery.created_at),
    },
    sorts={"created_at": Delivery.created_at, "id": Delivery.id},
    tags=lambda scope: (),
)
