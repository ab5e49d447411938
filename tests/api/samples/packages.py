"""What the routes of packages are tried with."""

from tests.api.samples.declared import Row, Samples, Target


def _package(target: Target) -> Row:
    return target.world.make.package(target.world.store)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/packages                 -              200 200 200 200 200 200 200 200
GET    /v1/stores/{store_id}/packages?archived=true   -              -   403 403 200 200 200 200 -
POST   /v1/stores/{store_id}/packages                 catalog:write  401 403 403 403 201 201 403 403
GET    /v1/stores/{store_id}/packages/{package_id}    -              200 200 200 200 200 200 200 200
PATCH  /v1/stores/{store_id}/packages/{package_id}    catalog:write  401 403 403 403 200 200 403 403
DELETE /v1/stores/{store_id}/packages/{package_id}    catalog:write  401 403 403 403 200 200 403 403
""",
    bodies={
        "POST /v1/stores/{store_id}/packages": {"name": "Gold", "amount": 1500, "interval": "month"},
        "PATCH /v1/stores/{store_id}/packages/{package_id}": {"name": "Silver"},
    },
    reads=[
        "/v1/stores/{store_id}/packages",
        "/v1/stores/{store_id}/packages?cursor=",
        "/v1/stores/{store_id}/packages?archived=true",
        "/v1/stores/{store_id}/packages/{package_id}",
    ],
    rows={"package_id": _package},
)
