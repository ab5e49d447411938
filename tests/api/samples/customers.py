"""What the routes of customers are tried with."""

from tests.api.samples.declared import Samples, Target


def _arrange(target: Target) -> None:
    target.world.make.customer(target.world.store, target.world.customer)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/customers                    payments:read  401 200 200 200 200 200 403 403
GET    /v1/stores/{store_id}/customers/{user_id}          payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/customers/{user_id}/balance  payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/customers/{user_id}/timeline payments:read  401 404 200 200 200 200 403 403
""",
    reads=[
        "/v1/stores/{store_id}/customers",
        "/v1/stores/{store_id}/customers/{user_id}",
        "/v1/stores/{store_id}/customers/{user_id}/balance",
        "/v1/stores/{store_id}/customers/{user_id}/timeline",
    ],
    arrange=_arrange,
)
