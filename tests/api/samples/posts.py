"""What the routes of posts are tried with."""

from typing import TYPE_CHECKING, Any

from tests.api.samples.declared import Row, Samples, Target

if TYPE_CHECKING:
    from tests.api.world import World


def _post(target: Target) -> Row:
    world = target.world
    if target.path.startswith("/v1/stores/"):
        return world.make.post(world.owner, store=world.store)
    return world.make.post(world.customer)


def _new_post(world: "World", caller: str) -> dict[str, Any]:
    body = {"title": "New wall", "body": "We open at seven.", "privacy": "public"}
    return body | ({"store_id": str(world.store.id)} if caller == "owner" else {})


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/posts                                      -              200 200 200 200 200 200 200 200
POST   /v1/posts                                      social:write   401 201 201 201 201 201 403 403
GET    /v1/posts/{post_id}                            -              200 200 200 200 200 200 200 200
PATCH  /v1/posts/{post_id}                            social:write   401 403 200 403 403 403 403 403
PUT    /v1/posts/{post_id}/like                       social:write   401 200 200 200 200 200 403 403
DELETE /v1/posts/{post_id}/like                       social:write   401 204 204 204 204 204 403 403
GET    /v1/posts/{post_id}/likes                      -              200 200 200 200 200 200 200 200
DELETE /v1/posts/{post_id}                            social:write   401 403 204 403 403 403 403 403
GET    /v1/users/{user_id}/posts                      -              200 200 200 200 200 200 200 200
GET    /v1/stores/{store_id}/posts                    -              200 200 200 200 200 200 200 200
""",
    bodies={
        "POST /v1/posts": _new_post,
        "PATCH /v1/posts/{post_id}": {"body": "We open at eight."},
    },
    reads=[
        "/v1/posts?include=author,store,comments.author",
        "/v1/posts?published=false&cursor=",
        "/v1/posts/{post_id}?include=author,comments.author",
        "/v1/posts/{post_id}/likes?include=user",
        "/v1/users/{user_id}/posts?include=author&cursor=",
        "/v1/stores/{store_id}/posts?include=store",
        "/v1/posts?q=open&cursor=",
    ],
    rows={"post_id": _post},
)
