"""What the routes of mailings are tried with."""

from dues.ids import new_id
from tests.api.samples.declared import Row, Samples, Target


def _mailing(target: Target) -> Row:
    world, post = target.world, target.rows["post_id"]
    columns = {"store_id": world.store.id, "id": new_id(), "post_id": post.id, "requested_by": world.owner.id}
    said = {"subject": "New wall", "body": "We open at seven.", "status": "succeeded"}
    return world.make.insert("mailings", columns | said)


def _arrange(target: Target) -> None:
    if target.path.endswith("/mailing-test"):
        # A test goes to the address of whoever asks, which has to be theirs.
        staff = [str(target.world.owner.id), str(target.world.manager.id)]
        verified = "update users set email_verified_at = now() where id = any(%(staff)s::uuid[])"
        target.world.make.rows(verified, {"staff": staff})


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/posts/{post_id}/mailings                social:read  401 403 403 200 200 200 403 403
POST   /v1/stores/{store_id}/posts/{post_id}/mailings                social:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/posts/{post_id}/mailings/{mailing_id}   social:read  401 403 403 200 200 200 403 403
POST   /v1/stores/{store_id}/posts/{post_id}/mailing-test            social:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/posts/{post_id}/mailing-preview         social:read  401 403 403 403 200 200 403 403
GET    /v1/unsubscribe                                -              400 400 400 400 400 400 400 400
POST   /v1/unsubscribe                                -              400 400 400 400 400 400 400 400
POST   /v1/mail-events                                -              409 409 409 409 409 409 409 409
""",
    bodies={
        "POST /v1/mail-events": {
            "events": [{"type": "bounced", "message_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20@dues.example"}]
        },
    },
    rows={"mailing_id": _mailing},
    arrange=_arrange,
)
