"""What a store's memberships come to, for its managers."""

from uuid import UUID

from api.request import parameters_of
from api.routing import Call, Routes
from dues.billing.metrics import PARAMETERS, metrics, parse_request
from dues.reads import ReadPlan, parse_query, plan_one

routes = Routes("metrics")


@routes.get(
    "/v1/stores/{store_id}/metrics",
    "reports:read",
    role="manager",
    returns=metrics,
    parameters=PARAMETERS,
)
def get_metrics(call: Call, store_id: UUID) -> ReadPlan:
    """How a store's memberships and their money develop

    For each period and currency: the monthly recurring revenue at its end (`mrr`; `committed_mrr` without those that
    are set to end), how many are `active`, `trialing` and `past_due`, what came and went during it, and the money that
    moved. With `view=cohorts`: how many of those who began in each period have stayed.
    """
    resource, scope = parse_request(store_id, parameters_of(call.request.query))
    return plan_one(resource, scope, parse_query(resource, (), one=True), call.request.query)
