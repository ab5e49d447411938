"""What the routes of webhooks are tried with."""

from tests.api.samples.declared import Row, Samples, Target


def _endpoint(target: Target) -> Row:
    return target.world.make.endpoint(target.world.store)


def _delivery(target: Target) -> Row:
    make, store = target.world.make, target.world.store
    return make.delivery(make.endpoint(store), make.event(store))


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/webhook-endpoints                           webhooks:read  401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-endpoints                           webhooks:write 401 403 403 403 201 201 403 403
GET    /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:read  401 403 403 403 200 200 403 403
PATCH  /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:write 401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/secrets     webhooks:write 401 403 403 403 201 201 403 403
POST   /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/replays     webhooks:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/webhook-deliveries                          webhooks:read  401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/webhook-deliveries/{delivery_id}            webhooks:read  401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-deliveries/{delivery_id}/replays    webhooks:write 401 403 403 403 202 202 403 403
DELETE /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:write 401 403 403 403 204 204 403 403
GET    /v1/stores/{store_id}/events                                      webhooks:read  401 403 403 403 200 200 403 403
""",
    bodies={
        "POST /v1/stores/{store_id}/webhook-endpoints": {"url": "https://1.1.1.1/hooks", "enabled": False},
        "PATCH /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}": {"description": "Till"},
        "POST /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/replays": {"after_seq": 0},
    },
    reads=[
        "/v1/stores/{store_id}/webhook-endpoints",
        "/v1/stores/{store_id}/webhook-endpoints/{endpoint_id}",
        "/v1/stores/{store_id}/webhook-deliveries/{delivery_id}",
    ],
    finished=[
        "/v1/stores/{store_id}/webhook-deliveries/{delivery_id}",
    ],
    rows={"endpoint_id": _endpoint, "delivery_id": _delivery},
)
