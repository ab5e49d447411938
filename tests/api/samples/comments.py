"""What the routes of comments are tried with."""

from tests.api.samples.declared import Row, Samples, Target


def _comment(target: Target) -> Row:
    return target.world.make.comment(target.rows["post_id"], target.world.customer)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/posts/{post_id}/comments                   -              200 200 200 200 200 200 200 200
POST   /v1/posts/{post_id}/comments                   social:write   401 201 201 201 201 201 403 403
GET    /v1/posts/{post_id}/comments/{comment_id}      -              200 200 200 200 200 200 200 200
PATCH  /v1/posts/{post_id}/comments/{comment_id}      social:write   401 403 200 403 403 403 403 403
DELETE /v1/posts/{post_id}/comments/{comment_id}      social:write   401 403 204 403 403 403 403 403
""",
    bodies={
        "POST /v1/posts/{post_id}/comments": {"body": "At last."},
        "PATCH /v1/posts/{post_id}/comments/{comment_id}": {"body": "At last!"},
    },
    reads=[
        "/v1/posts/{post_id}/comments?include=author",
        "/v1/posts/{post_id}/comments/{comment_id}",
    ],
    rows={"comment_id": _comment},
)
