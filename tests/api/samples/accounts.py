"""What the routes of accounts are tried with."""

from tests.api.samples.declared import Row, Samples, Target
from tests.rows.people import PASSWORD


def _user(target: Target) -> Row:
    """One of the staff, somebody to be followed, or the customer."""
    world = target.world
    if "/staff/" in target.path and target.method != "PUT":
        return Row(id=world.make.staff(world.store).user_id)
    return world.other if target.path.startswith("/v1/me/") else world.customer


def _address(target: Target) -> Row:
    return target.world.make.address(target.world.customer)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/users                                      -              201 201 201 201 201 201 201 201
GET    /v1/users/{user_id}                            -              200 200 200 200 200 200 200 200
GET    /v1/me                                         account:read   401 200 200 200 200 200 403 -
PATCH  /v1/me                                         account:write  401 200 200 200 200 200 403 403
GET    /v1/me/addresses                               account:read   401 200 200 200 200 200 403 -
POST   /v1/me/addresses                               account:write  401 201 201 201 201 201 403 403
GET    /v1/me/addresses/{address_id}                  account:read   401 404 200 404 404 404 403 -
PATCH  /v1/me/addresses/{address_id}                  account:write  401 404 200 404 404 404 403 403
DELETE /v1/me/addresses/{address_id}                  account:write  401 404 204 404 404 404 403 403
""",
    bodies={
        "POST /v1/users": {"email": "new-{caller}@example.com", "name": "New", "password": PASSWORD},
        "PATCH /v1/me": {"name": "Renamed"},
        "POST /v1/me/addresses": {"label": "Home", "line1": "1 High Street", "city": "Leeds", "country": "GB"},
        "PATCH /v1/me/addresses/{address_id}": {"city": "York"},
    },
    reads=[
        "/v1/users/{user_id}",
        "/v1/me?include=payments.package,payments.refunds,payments.user,subscriptions",
        "/v1/me/addresses",
        "/v1/me/addresses/{address_id}",
    ],
    rows={"user_id": _user, "address_id": _address},
)
