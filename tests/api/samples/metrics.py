"""What the routes of metrics are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/metrics                  reports:read   401 403 403 403 200 200 403 403
""",
    reads=[
        "/v1/stores/{store_id}/metrics",
        "/v1/stores/{store_id}/metrics?view=cohorts",
    ],
)
