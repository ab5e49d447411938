"""The `webhooks` of the OpenAPI document: what an endpoint is sent, for each type of event."""

from api.openapi.parts import Part, ref
from dues.events import EVENT_TYPES, EventType
from dues.webhooks.reads import SHOWN

# Not the tag of the endpoints' operations: generators make a class of each tag, and one would overwrite the other.
EVENTS_TAG: Part = {"name": "events", "description": "What webhook endpoints are sent when something has happened."}

# In the place of a resource that would make the event larger than 20 kB.
SHORTENED: Part = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "links": {"type": "object", "additionalProperties": {"type": ["string", "null"], "format": "uri-reference"}},
    },
    "required": ["id", "links"],
    "additionalProperties": False,
}

_HEADERS = {
    "webhook-id": "The event's id: the same on every attempt, and on a replay.",
    "webhook-timestamp": "When this attempt was made, in seconds since 1970.",
    "webhook-signature": "`v1,` and a signature in base64; several with spaces between for a day after a new secret.",
}


def webhook_items() -> dict[str, Part]:
    """A path item for each type of event."""
    return {event_type: {"post": _operation(event_type)} for event_type in EVENT_TYPES}


def _operation(event_type: EventType) -> Part:
    noun, _, verb = event_type.partition(".")
    return {
        "operationId": "on_" + event_type.replace(".", "_"),
        "tags": ["events"],
        "summary": f"{noun} {verb.replace('_', ' ')}".capitalize(),
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": meaning, "schema": {"type": "string"}}
            for name, meaning in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(event_type)}}},
        "responses": {
            "2XX": {"description": "Taken: it is not sent again"},
            "410": {"description": "Gone for good: the endpoint is disabled"},
            "default": {"description": "Anything else, redirects too: it is sent again later"},
        },
        # Signed, and without a token.
        "security": [],
    }


def _schema(event_type: EventType) -> Part:
    resource = SHOWN[event_type]
    return {
        "type": "object",
        "properties": {
            "type": {"const": event_type},
            "timestamp": {"type": "string", "format": "date-time"},
            "store_id": {"type": "string", "format": "uuid"},
            "seq": {"type": "integer", "minimum": 1, "description": "the event's number in its store, without a gap"},
            "data": {"anyOf": [ref("schemas", resource.name), ref("schemas", "Shortened")]},
        },
        "required": ["type", "timestamp", "store_id", "seq", "data"],
        "additionalProperties": False,
    }
