"""What the routes of follows are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/users/{user_id}/followers                  social:read    401 200 200 200 200 200 403 200
GET    /v1/users/{user_id}/following                  social:read    401 200 200 200 200 200 403 200
PUT    /v1/me/following/{user_id}                     social:write   401 409 200 200 200 200 403 403
DELETE /v1/me/following/{user_id}                     social:write   401 204 204 204 204 204 403 403
GET    /v1/me/blocks                                  social:read    401 200 200 200 200 200 403 403
PUT    /v1/me/blocks/{user_id}                        social:write   401 409 200 200 200 200 403 403
DELETE /v1/me/blocks/{user_id}                        social:write   401 204 204 204 204 204 403 403
""",
    reads=[
        "/v1/users/{user_id}/followers",
        "/v1/users/{user_id}/following",
        "/v1/me/blocks",
    ],
)
