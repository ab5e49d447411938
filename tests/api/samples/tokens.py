"""What the routes of tokens are tried with."""

from typing import TYPE_CHECKING, Any

from dues.ids import new_id
from tests.api.samples.declared import Row, Samples, Target
from tests.rows.people import PASSWORD

if TYPE_CHECKING:
    from tests.api.world import World


def _token(target: Target) -> Row:
    token = Row(id=new_id())
    target.world.make.token(target.world.customer, id=token.id)
    return token


def _new_token(world: "World", caller: str) -> dict[str, Any]:
    if caller == "nobody":
        return {"email": world.customer.email, "password": PASSWORD}
    return {"name": "narrower", "scopes": ["jobs:read"]}


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/tokens                                     account:write  201 201 201 201 201 201 403 -
GET    /v1/tokens                                     account:read   401 200 200 200 200 200 403 -
GET    /v1/tokens/{token_id}                          account:read   401 404 200 404 404 404 403 404
DELETE /v1/tokens/{token_id}                          account:write  401 404 204 404 404 404 403 404
""",
    bodies={
        "POST /v1/tokens": _new_token,
    },
    reads=[
        "/v1/tokens?fields=id,name,scopes",
        "/v1/tokens/{token_id}",
    ],
    rows={"token_id": _token},
)
