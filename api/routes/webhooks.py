"""Webhooks: a store's managers register endpoints, see what became of deliveries, and read or replay events."""

from uuid import UUID

import msgspec
import ujson

from api.reply import Reply, json_reply, no_content
from api.routing import Call, Routes
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.webhooks import endpoints as service
from dues.webhooks import replays
from dues.webhooks.endpoints import NewWebhookEndpoint, WebhookEndpointChange
from dues.webhooks.models import Delivery, Endpoint
from dues.webhooks.reads import deliveries, endpoints, events, issued_endpoints
from dues.webhooks.replays import NewReplay, WebhookReplay
from dues.webhooks.signing import write_secret

routes = Routes(
    "webhooks",
    examples={
        "url": "https://shop.example/hooks",
    },
    bodies={
        "NewReplay": {
            "after an event": {"after_seq": 41, "missed": True},
            "from a time": {"from": "2026-11-20T14:39:00Z"},
        },
    },
)
STORE = "/v1/stores/{store_id}"
ENDPOINTS, ENDPOINT = f"{STORE}/webhook-endpoints", f"{STORE}/webhook-endpoints/{{endpoint_id}}"
DELIVERIES, DELIVERY = f"{STORE}/webhook-deliveries", f"{STORE}/webhook-deliveries/{{delivery_id}}"


def _find(call: Call) -> Endpoint:
    return service.get_endpoint(call.ids["store_id"], call.ids["endpoint_id"])


def _find_delivery(call: Call) -> Delivery:
    return replays.get_delivery(call.ids["store_id"], call.ids["delivery_id"])


def _delivery(call: Call, delivery_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": delivery_id}


def _show(call: Call, reply: Reply) -> Reply:
    """The answer with the secret in it, which goes out and is kept nowhere."""
    assert reply.body
    document = ujson.loads(reply.body)
    document["secret"] = write_secret(call.seed, UUID(document["id"]))
    headers = {name: value for name, value in reply.headers.items() if name != "ETag"}
    return json_reply(document, reply.status, headers | {"Cache-Control": "no-store"})


@routes.get(ENDPOINTS, "webhooks:read", role="manager", lists=endpoints)
def list_webhook_endpoints(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(endpoints, {"store_id": store_id})


@routes.post(ENDPOINTS, "webhooks:write", role="manager", body=NewWebhookEndpoint, returns=issued_endpoints, seal=_show)
def create_webhook_endpoint(call: Call, store_id: UUID) -> Reply:
    """Register an endpoint

    It is told of what happens from now on. The secret, which verifies the signatures, is shown in this answer only.
    """
    endpoint = service.create_endpoint(store_id, call.data, call.seed)
    return call.created(issued_endpoints, {"store_id": store_id, "id": endpoint.id})


@routes.get(ENDPOINT, "webhooks:read", role="manager", reads=endpoints)
def get_webhook_endpoint(call: Call, store_id: UUID, endpoint_id: UUID) -> ReadPlan:
    return call.one(endpoints, {"store_id": store_id, "id": endpoint_id})


@routes.patch(ENDPOINT, "webhooks:write", role="manager", find=_find, body=WebhookEndpointChange, returns=endpoints)
def change_webhook_endpoint(call: Call, store_id: UUID, endpoint_id: UUID) -> Reply:
    call.match(call.row.version)
    service.change_endpoint(call.row, call.data)
    return call.written(endpoints, {"store_id": store_id, "id": endpoint_id})


@routes.delete(ENDPOINT, "webhooks:write", role="manager", find=_find)
def delete_webhook_endpoint(call: Call, store_id: UUID, endpoint_id: UUID) -> Reply:
    call.match(call.row.version)
    service.delete_endpoint(call.row)
    return no_content()


@routes.post(f"{ENDPOINT}/secrets", "webhooks:write", role="manager", find=_find, returns=issued_endpoints, seal=_show)
def rotate_webhook_secret(call: Call, store_id: UUID, endpoint_id: UUID) -> Reply:
    """Give an endpoint a new secret

    The old one goes on signing beside it for 24 hours. The new one is shown in this answer only.
    """
    service.rotate_secret(call.row, call.seed)
    reply = call.written(issued_endpoints, {"store_id": store_id, "id": endpoint_id}, 201)
    reply.headers["Location"] = f"/v1/stores/{store_id}/webhook-endpoints/{endpoint_id}"
    return reply


@routes.post(
    f"{ENDPOINT}/replays",
    "webhooks:write",
    role="manager",
    find=_find,
    body=NewReplay,
    returns=WebhookReplay,
    statuses=(202,),
)
def replay_webhook_events(call: Call, store_id: UUID, endpoint_id: UUID) -> Reply:
    """Send events to an endpoint again

    Those above a number or from a time on, or of these only what it has missed. A replay of an endpoint has to be over
    before the next; it waits while many deliveries to the endpoint are pending.
    """
    job_id, replay = replays.request_replay(call.row, call.actor.user_id, call.data)
    headers = {"Location": f"/v1/jobs/{job_id}", "Retry-After": "1"}
    return json_reply(msgspec.to_builtins(replay), 202, headers)


@routes.get(DELIVERIES, "webhooks:read", role="manager", lists=deliveries)
def list_webhook_deliveries(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(deliveries, {"store_id": store_id})


@routes.get(DELIVERY, "webhooks:read", role="manager", reads=deliveries)
def get_webhook_delivery(call: Call, store_id: UUID, delivery_id: UUID) -> ReadPlan:
    return call.one(deliveries, {"store_id": store_id, "id": delivery_id})


@routes.post(
    f"{DELIVERY}/replays",
    "webhooks:write",
    role="manager",
    find=_find_delivery,
    returns=deliveries,
    slow=_delivery,
    statuses=(202, 201),
)
def replay_webhook_delivery(call: Call, store_id: UUID, delivery_id: UUID) -> Reply:
    """Send a delivery's event again

    It becomes another delivery, to the endpoint as it is now.
    """
    new_delivery_id, job_id = replays.replay_delivery(call.row, call.actor.user_id)
    return call.accepted(new_delivery_id, job_id)


@routes.get(f"{STORE}/events", "webhooks:read", role="manager", lists=events)
def list_events(call: Call, store_id: UUID) -> ReadPlan:
    """List what has happened, in its order

    Numbered from 1 without a gap: a receiver that has missed some asks for those after the last it knows, `seq[gt]=…`.
    """
    return call.list(events, {"store_id": store_id})
