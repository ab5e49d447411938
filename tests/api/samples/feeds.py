"""What the routes of feeds are tried with."""

from tests.api.samples.declared import Samples

SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/feed                                       social:read    401 200 200 200 200 200 403 403
GET    /v1/newsfeed                                   social:read    401 200 200 200 200 200 403 403
""",
    reads=[
        "/v1/feed?include=author,store,comments.author",
        "/v1/newsfeed?include=author,store,comments.author&page=1&meta_style=drf",
    ],
)
