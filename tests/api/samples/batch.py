"""What the routes of batch are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
POST   /v1/batch                                      -              207 207 207 207 207 207 207 207
""",
    bodies={
        "POST /v1/batch": {"operations": [{"id": "a", "method": "GET", "path": "/v1/stores"}]},
    },
)
