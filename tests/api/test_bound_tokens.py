"""What a token that is bound to a store sees and changes of its own user, whose rows are not that store's.

Routes below a store are in the table of access (test_access.py, `elsewhere`). These here are all others that want a
token: each either is refused, or shows the store's rows alone, or says why it may show more.
"""

from typing import Any

from flask import Flask

from dues.ids import new_id
from tests.api.samples.declared import sent_with
from tests.api.test_access import ROWS, Row, body_of
from tests.api.world import World
from tests.factory import Factory

# What it answers where the row that the path names, if any, is the caller's own and of another store or of none.
TABLE = """
# Who the user is, and where documents are sent: for the store that they deal with.
GET    /v1/me                                          200
GET    /v1/me/addresses                                200
GET    /v1/me/addresses/{address_id}                   200
PATCH  /v1/me                                          403
POST   /v1/me/addresses                                403
PATCH  /v1/me/addresses/{address_id}                   403
DELETE /v1/me/addresses/{address_id}                   403
POST   /v1/me/email-verifications                      403

# The store's rows alone.
GET    /v1/me/payments                                 200
GET    /v1/me/subscriptions                            200
GET    /v1/tokens                                      200
GET    /v1/tokens/{token_id}                           404
DELETE /v1/tokens/{token_id}                           404
GET    /v1/jobs                                        200
GET    /v1/jobs/{job_id}                               403
GET    /v1/jobs/{job_id}/events                        403
DELETE /v1/jobs/{job_id}                               403
# Tokens that are bound to the same store.
POST   /v1/tokens                                      201

# Those that are good in the store.
GET    /v1/me/payment-methods                          200
GET    /v1/me/payment-methods/{payment_method_id}      200
POST   /v1/me/payment-methods                          403
PATCH  /v1/me/payment-methods/{payment_method_id}      403
DELETE /v1/me/payment-methods/{payment_method_id}      403

# What everybody with a token is shown.
GET    /v1/users/{user_id}/followers                   200
GET    /v1/users/{user_id}/following                   200
GET    /v1/feed                                        403
GET    /v1/newsfeed                                    403
POST   /v1/posts                                       403
PATCH  /v1/posts/{post_id}                             403
DELETE /v1/posts/{post_id}                             403
PUT    /v1/posts/{post_id}/like                        403
DELETE /v1/posts/{post_id}/like                        403
POST   /v1/posts/{post_id}/comments                    403
PATCH  /v1/posts/{post_id}/comments/{comment_id}       403
DELETE /v1/posts/{post_id}/comments/{comment_id}       403
PUT    /v1/me/following/{user_id}                      403
DELETE /v1/me/following/{user_id}                      403
GET    /v1/me/blocks                                   403
PUT    /v1/me/blocks/{user_id}                         403
DELETE /v1/me/blocks/{user_id}                         403

# What is told there is what the routes above show.
POST   /v1/sync                                        200
GET    /v1/sync                                        200
POST   /v1/stores                                      403
"""
EXPECTED = {
    (method, path): int(status)
    for method, path, status in (line.split() for line in TABLE.splitlines() if line and not line.startswith("#"))
}


def outside_of_stores() -> list[Row]:
    return [row for row in ROWS if row.scope != "-" and "{store_id}" not in row.path]


def ask(app: Flask, row: Row, world: World, headers: dict[str, str]) -> int:
    path = row.path.format_map(world.target(row.method, row.path))
    key = {"Idempotency-Key": new_id().hex} if row.method == "POST" else {}
    sent: Any = sent_with(body_of(row, "customer", world))
    with app.test_client().open(path, method=row.method, headers=headers | key, **sent) as answer:
        return answer.status_code


def test_of_ones_own_it_opens_what_the_table_says(make: Factory, app: Flask) -> None:
    assert {row.route for row in outside_of_stores()} == set(EXPECTED)
    found = {}
    for row in outside_of_stores():
        world = World(make, app)
        found[row.route] = ask(app, row, world, make.auth(world.customer, store=world.elsewhere))
    assert found == EXPECTED


def test_lists_hold_the_stores_rows_alone(make: Factory, app: Flask) -> None:
    user, (store, other) = make.user(), (make.store(), make.store())
    kept = {}
    for one in (store, other):
        method = make.payment_method(user, store_id=one.id)
        job = make.insert("jobs", {"id": new_id(), "kind": "payment.charge", "queue": "critical"} | owned(user, one))
        kept[one.id] = {
            "/v1/me/payments": make.payment(one, user).id,
            "/v1/me/subscriptions": make.subscription(one, user).id,
            "/v1/me/payment-methods": method.id,
            "/v1/jobs": job.id,
        }
    make.insert("jobs", {"id": new_id(), "kind": "account.notice", "queue": "default", "owner_id": user.id})
    make.token(user, store=other)
    bound, client = make.auth(user, store=store), app.test_client()

    def rows(path: str) -> list[dict[str, Any]]:
        found: dict[str, Any] = client.get(path, headers=bound).json or {}
        return list(found["data"])

    for path, expected in kept[store.id].items():
        assert [row["id"] for row in rows(path)] == [str(expected)], path
    assert [row["store_id"] for row in rows("/v1/tokens")] == [str(store.id)]


def owned(user: Any, store: Any) -> dict[str, Any]:
    return {"owner_id": user.id, "store_id": store.id}


def test_a_job_of_no_store_is_not_there_for_it(make: Factory, app: Flask) -> None:
    """Of its user's account, say, which is told of in no list either."""
    user, store = make.user(email_verified_at=None), make.store()
    client, auth, bound = app.test_client(), make.auth(user), make.auth(user, store=store)
    asked = client.post("/v1/me/email-verifications", headers=auth)
    job = asked.headers["Location"]
    assert client.get(job, headers=auth).status_code == 200
    for method, path in (("GET", job), ("GET", f"{job}/events"), ("DELETE", job)):
        assert client.open(path, method=method, headers=bound).status_code == 403, path
