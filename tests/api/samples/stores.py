"""What the routes of stores are tried with."""

from datetime import UTC, datetime, timedelta

from tests.api.samples.declared import Samples, Target

# One dot.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def _arrange(target: Target) -> None:
    if target.path.endswith("/logo"):
        target.world.make.rows(
            "insert into store_logos(store_id, content) select id, '\\x89' from stores on conflict do nothing"
        )
    if target.method == "PUT" and target.path.endswith("/clock"):
        target.world.make.rows("update store_clocks set advancing_to = null, version = 1")


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores                                     -              200 200 200 200 200 200 200 200
POST   /v1/stores                                     catalog:write  401 201 201 201 201 201 403 403
GET    /v1/stores/{store_id}                          -              200 200 200 200 200 200 200 200
PATCH  /v1/stores/{store_id}                          catalog:write  401 403 403 403 403 200 403 403
GET    /v1/stores/{store_id}/clock                    subscriptions:read  401 403 403 200 200 200 403 403
PUT    /v1/stores/{store_id}/clock                    subscriptions:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/logo                     -              200 200 200 200 200 200 200 200
PUT    /v1/stores/{store_id}/logo                     catalog:write  401 403 403 403 200 200 403 403
DELETE /v1/stores/{store_id}/logo                     catalog:write  401 403 403 403 204 204 403 403
GET    /v1/stores/{store_id}/staff                    catalog:read   401 403 403 200 200 200 403 403
GET    /v1/stores/{store_id}/staff/{user_id}          catalog:read   401 403 403 200 200 200 403 403
PUT    /v1/stores/{store_id}/staff/{user_id}          catalog:write  401 403 403 403 403 200 403 403
DELETE /v1/stores/{store_id}/staff/{user_id}          catalog:write  401 403 403 403 403 204 403 403
""",
    bodies={
        "POST /v1/stores": {"name": "Shop", "slug": "shop-{caller}", "currency": "EUR"},
        "PATCH /v1/stores/{store_id}": {"name": "Renamed"},
        "PUT /v1/stores/{store_id}/clock": {"now": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
        "PUT /v1/stores/{store_id}/logo": {"content": PNG},
        "PUT /v1/stores/{store_id}/staff/{user_id}": {"role": "support"},
    },
    reads=[
        "/v1/stores",
        "/v1/stores/{store_id}",
        "/v1/stores/{store_id}/clock",
        "/v1/stores/{store_id}/staff",
        "/v1/stores/{store_id}/staff/{user_id}",
    ],
    arrange=_arrange,
)
