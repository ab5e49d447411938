"""What the routes of sync are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/sync                                       account:read   401 200 200 200 200 200 403 200
GET    /v1/sync                                       account:read   401 200 200 200 200 200 403 200
""",
    bodies={
        "POST /v1/sync": {"cursor": None, "ops": []},
    },
)
