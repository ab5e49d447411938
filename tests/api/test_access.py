"""Who may do what: every route as each kind of caller, with the status that the HTTP contract gives.

The table is written from the contract and not from the code. A row's target belongs to `customer`, in a store where
`support`, `manager` and `owner` are the staff; `other` has a token and nothing to do with either. `unscoped` is the
owner with every scope but the row's, and `elsewhere` the owner with a token that is bound to another store of hers.
`-` stands where the contract does not say.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient

from dues.accounts.actor import SCOPES
from dues.ids import new_id
from tests.api.world import World
from tests.factory import PASSWORD, Factory

CALLERS = ("nobody", "other", "customer", "support", "manager", "owner", "unscoped", "elsewhere")

TABLE = """
#                                                           nobody oth cus sup man own unscoped elsewhere
POST   /v1/users                                      -              201 201 201 201 201 201 201 201
GET    /v1/users/{user_id}                            -              200 200 200 200 200 200 200 200
POST   /v1/tokens                                     account:write  201 201 201 201 201 201 403 -
GET    /v1/tokens                                     account:read   401 200 200 200 200 200 403 -
GET    /v1/tokens/{token_id}                          account:read   401 404 200 404 404 404 403 404
DELETE /v1/tokens/{token_id}                          account:write  401 404 204 404 404 404 403 404
GET    /v1/me                                         account:read   401 200 200 200 200 200 403 -
PATCH  /v1/me                                         account:write  401 200 200 200 200 200 403 403
POST   /v1/me/email-verifications                     account:write  401 202 202 202 202 202 403 403
POST   /v1/email-verifications/confirmations          -              204 204 204 204 204 204 204 204
POST   /v1/password-resets                            -              202 202 202 202 202 202 202 202
POST   /v1/password-resets/confirmations              -              204 204 204 204 204 204 204 204
GET    /v1/me/addresses                               account:read   401 200 200 200 200 200 403 -
POST   /v1/me/addresses                               account:write  401 201 201 201 201 201 403 403
GET    /v1/me/addresses/{address_id}                  account:read   401 404 200 404 404 404 403 -
PATCH  /v1/me/addresses/{address_id}                  account:write  401 404 200 404 404 404 403 403
DELETE /v1/me/addresses/{address_id}                  account:write  401 404 204 404 404 404 403 403
GET    /v1/me/payments                                payments:read  401 200 200 200 200 200 403 200
GET    /v1/me/payment-methods                         payments:read  401 200 200 200 200 200 403 -
POST   /v1/me/payment-methods                         payments:write 401 201 201 201 201 201 403 -
GET    /v1/me/payment-methods/{payment_method_id}     payments:read  401 404 200 404 404 404 403 -
PATCH  /v1/me/payment-methods/{payment_method_id}     payments:write 401 404 200 404 404 404 403 -
DELETE /v1/me/payment-methods/{payment_method_id}     payments:write 401 404 204 404 404 404 403 -
GET    /v1/stores                                     -              200 200 200 200 200 200 200 200
POST   /v1/stores                                     catalog:write  401 201 201 201 201 201 403 403
GET    /v1/stores/{store_id}                          -              200 200 200 200 200 200 200 200
PATCH  /v1/stores/{store_id}                          catalog:write  401 403 403 403 403 200 403 403
GET    /v1/stores/{store_id}/clock                    subscriptions:read  401 403 403 200 200 200 403 403
PUT    /v1/stores/{store_id}/clock                    subscriptions:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/staff                    catalog:read   401 403 403 200 200 200 403 403
GET    /v1/stores/{store_id}/staff/{user_id}          catalog:read   401 403 403 200 200 200 403 403
PUT    /v1/stores/{store_id}/staff/{user_id}          catalog:write  401 403 403 403 403 200 403 403
DELETE /v1/stores/{store_id}/staff/{user_id}          catalog:write  401 403 403 403 403 204 403 403
GET    /v1/stores/{store_id}/packages                 -              200 200 200 200 200 200 200 200
GET    /v1/stores/{store_id}/packages?archived=true   -              -   403 403 200 200 200 200 -
POST   /v1/stores/{store_id}/packages                 catalog:write  401 403 403 403 201 201 403 403
GET    /v1/stores/{store_id}/packages/{package_id}    -              200 200 200 200 200 200 200 200
PATCH  /v1/stores/{store_id}/packages/{package_id}    catalog:write  401 403 403 403 200 200 403 403
DELETE /v1/stores/{store_id}/packages/{package_id}    catalog:write  401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/payments                 payments:read  401 200 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments                 payments:write 401 202 202 202 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}    payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/confirmations       payments:write 401 404 202 403 403 403 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds             payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/refunds             payments:write 401 404 403 403 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id} payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/documents                payments:read  401 200 200 200 200 200 403 403
GET    /v1/stores/{store_id}/documents/{document_id}  payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/receipt             payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/payments/{payment_id}/receipt/deliveries  payments:write 401 404 202 202 202 202 403 403
GET    /v1/stores/{store_id}/payments/{payment_id}/refunds/{refund_id}/receipt payments:read 401 404 200 200 200 200 403 403
GET    /v1/me/subscriptions                               subscriptions:read  401 200 200 200 200 200 403 200
GET    /v1/stores/{store_id}/subscriptions                subscriptions:read  401 200 200 200 200 200 403 403
POST   /v1/stores/{store_id}/subscriptions                subscriptions:write 401 202 202 202 202 202 403 403
GET    /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:read  401 404 200 200 200 200 403 403
PATCH  /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:write 401 404 200 403 200 200 403 403
DELETE /v1/stores/{store_id}/subscriptions/{subscription_id} subscriptions:write 401 404 200 403 200 200 403 403
GET    /v1/stores/{store_id}/invoices                     payments:read  401 200 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}        payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/file   payments:read  401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id}/file payments:read 401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes payments:read  401 404 200 200 200 200 403 403
POST   /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes payments:write 401 404 403 403 201 201 403 403
GET    /v1/stores/{store_id}/invoices/{invoice_id}/credit-notes/{note_id} payments:read 401 404 200 200 200 200 403 403
GET    /v1/stores/{store_id}/reports                  reports:read   401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/reports                  reports:write  401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/reports/{report_id}      reports:read   401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/reports/{report_id}/file reports:read   401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/webhook-endpoints                           webhooks:read  401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-endpoints                           webhooks:write 401 403 403 403 201 201 403 403
GET    /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:read  401 403 403 403 200 200 403 403
PATCH  /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:write 401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/secrets     webhooks:write 401 403 403 403 201 201 403 403
POST   /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/replays     webhooks:write 401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/webhook-deliveries                          webhooks:read  401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/webhook-deliveries/{delivery_id}            webhooks:read  401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/webhook-deliveries/{delivery_id}/replays    webhooks:write 401 403 403 403 202 202 403 403
DELETE /v1/stores/{store_id}/webhook-endpoints/{endpoint_id}             webhooks:write 401 403 403 403 204 204 403 403
GET    /v1/stores/{store_id}/events                                      webhooks:read  401 403 403 403 200 200 403 403
GET    /v1/posts                                      -              200 200 200 200 200 200 200 200
POST   /v1/posts                                      social:write   401 201 201 201 201 201 403 403
GET    /v1/posts/{post_id}                            -              200 200 200 200 200 200 200 200
PATCH  /v1/posts/{post_id}                            social:write   401 403 200 403 403 403 403 403
PUT    /v1/posts/{post_id}/like                       social:write   401 200 200 200 200 200 403 403
DELETE /v1/posts/{post_id}/like                       social:write   401 204 204 204 204 204 403 403
GET    /v1/posts/{post_id}/likes                      -              200 200 200 200 200 200 200 200
GET    /v1/posts/{post_id}/comments                   -              200 200 200 200 200 200 200 200
POST   /v1/posts/{post_id}/comments                   social:write   401 201 201 201 201 201 403 403
GET    /v1/posts/{post_id}/comments/{comment_id}      -              200 200 200 200 200 200 200 200
PATCH  /v1/posts/{post_id}/comments/{comment_id}      social:write   401 403 200 403 403 403 403 403
DELETE /v1/posts/{post_id}/comments/{comment_id}      social:write   401 403 204 403 403 403 403 403
DELETE /v1/posts/{post_id}                            social:write   401 403 204 403 403 403 403 403
GET    /v1/feed                                       social:read    401 200 200 200 200 200 403 403
GET    /v1/newsfeed                                   social:read    401 200 200 200 200 200 403 403
GET    /v1/users/{user_id}/posts                      -              200 200 200 200 200 200 200 200
GET    /v1/stores/{store_id}/posts                    -              200 200 200 200 200 200 200 200
GET    /v1/users/{user_id}/followers                  social:read    401 200 200 200 200 200 403 200
GET    /v1/users/{user_id}/following                  social:read    401 200 200 200 200 200 403 200
PUT    /v1/me/following/{user_id}                     social:write   401 409 200 200 200 200 403 403
DELETE /v1/me/following/{user_id}                     social:write   401 204 204 204 204 204 403 403
GET    /v1/me/blocks                                  social:read    401 200 200 200 200 200 403 403
PUT    /v1/me/blocks/{user_id}                        social:write   401 409 200 200 200 200 403 403
DELETE /v1/me/blocks/{user_id}                        social:write   401 204 204 204 204 204 403 403
GET    /v1/jobs                                       jobs:read      401 200 200 200 200 200 403 200
GET    /v1/jobs/{job_id}                              jobs:read      401 404 200 404 200 200 403 403
GET    /v1/jobs/{job_id}/events                       jobs:read      401 404 200 404 200 200 403 403
DELETE /v1/jobs/{job_id}                              jobs:write     401 404 200 404 200 200 403 403
POST   /v1/batch                                      -              207 207 207 207 207 207 207 207
"""  # noqa: E501


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    scope: str
    expected: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path.partition("?")[0]


def read_table(text: str) -> list[Row]:
    words = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [
        Row(method, path, scope, dict(zip(CALLERS, statuses, strict=True))) for method, path, scope, *statuses in words
    ]


ROWS = read_table(TABLE)
ADDRESS = {"label": "Home", "line1": "1 High Street", "city": "Leeds", "country": "GB"}
PACKAGE = {"name": "Gold", "amount": 1500, "interval": "month"}
PAYMENTS = "/v1/stores/{store_id}/payments"
# Nothing is wrong with any of these. `{caller}` keeps apart what must be unique.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/batch"): {"operations": [{"id": "a", "method": "GET", "path": "/v1/stores"}]},
    ("POST", "/v1/users"): {"email": "new-{caller}@example.com", "name": "New", "password": PASSWORD},
    ("POST", "/v1/tokens"): {"name": "narrower", "scopes": ["jobs:read"]},
    ("PATCH", "/v1/me"): {"name": "Renamed"},
    ("POST", "/v1/password-resets"): {"email": "{caller}@example.com"},
    ("POST", "/v1/me/addresses"): ADDRESS,
    ("PATCH", "/v1/me/addresses/{address_id}"): {"city": "York"},
    ("POST", "/v1/me/payment-methods"): {"token": "sandbox_ok", "is_default": True},
    ("PATCH", "/v1/me/payment-methods/{payment_method_id}"): {"is_default": True},
    ("POST", "/v1/stores"): {"name": "Shop", "slug": "shop-{caller}", "currency": "EUR"},
    ("PATCH", "/v1/stores/{store_id}"): {"name": "Renamed"},
    # Nothing falls due on the way.
    ("PUT", "/v1/stores/{store_id}/clock"): {"now": (datetime.now(UTC) + timedelta(days=1)).isoformat()},
    ("PUT", "/v1/stores/{store_id}/staff/{user_id}"): {"role": "support"},
    ("POST", "/v1/stores/{store_id}/packages"): PACKAGE,
    ("PATCH", "/v1/stores/{store_id}/packages/{package_id}"): {"name": "Silver"},
    ("POST", PAYMENTS): {"amount": 500, "currency": "EUR", "description": "Tea", "payment_method": "sandbox_ok"},
    ("POST", PAYMENTS + "/{payment_id}/confirmations"): {"outcome": "succeed"},
    ("POST", PAYMENTS + "/{payment_id}/refunds"): {"amount": 100},
    ("PATCH", "/v1/stores/{store_id}/subscriptions/{subscription_id}"): {"cancel_at_period_end": True},
    ("POST", "/v1/stores/{store_id}/invoices/{invoice_id}/credit-notes"): {"amount": 100, "to": "balance"},
    ("POST", "/v1/stores/{store_id}/reports"): {
        "kind": "payments",
        "format": "csv",
        "from": "2026-01-01T00:00:00Z",
        "to": "2026-02-01T00:00:00Z",
    },
    ("POST", "/v1/posts"): {"title": "New wall", "body": "We open at seven.", "privacy": "public"},
    ("PATCH", "/v1/posts/{post_id}"): {"body": "We open at eight."},
    ("POST", "/v1/posts/{post_id}/comments"): {"body": "At last."},
    ("PATCH", "/v1/posts/{post_id}/comments/{comment_id}"): {"body": "At last!"},
    # Nobody is there, and nobody is asked.
    ("POST", "/v1/stores/{store_id}/webhook-endpoints"): {"url": "https://1.1.1.1/hooks", "enabled": False},
    ("PATCH", "/v1/stores/{store_id}/webhook-endpoints/{endpoint_id}"): {"description": "Till"},
    ("POST", "/v1/stores/{store_id}/webhook-endpoints/{endpoint_id}/replays"): {"after_seq": 0},
}


def body_of(row: Row, caller: str, world: World) -> dict[str, Any] | None:
    if row.route == ("POST", "/v1/tokens") and caller == "nobody":
        return {"email": world.customer.email, "password": PASSWORD}
    if row.path.endswith("email-verifications/confirmations"):
        return {"code": world.code("verify-email")}
    if row.path.endswith("password-resets/confirmations"):
        return {"code": world.code("reset-password"), "password": "another good passphrase"}
    body = BODIES.get(row.route, {})
    if row.route == ("POST", "/v1/stores/{store_id}/subscriptions"):
        return {"package_id": str(world.package.id), "payment_method": "sandbox_ok"}
    if row.route == ("POST", "/v1/posts") and caller == "owner":
        body = body | {"store_id": str(world.store.id)}
    return {k: v.format(caller=caller) if isinstance(v, str) else v for k, v in body.items()} or None


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)


def headers_of(caller: str, row: Row, world: World, make: Factory) -> dict[str, str]:
    match caller:
        case "nobody":
            return {}
        case "unscoped":
            return make.auth(world.owner, *(scope for scope in SCOPES if scope != row.scope))
        case "elsewhere":
            return make.auth(world.owner, store=world.elsewhere)
    return make.auth(getattr(world, caller))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_access(row: Row, world: World, make: Factory, app: Flask) -> None:
    answered = {}
    for caller in CALLERS:
        path = row.path.format_map(world.target(row.method, row.path))
        headers = headers_of(caller, row, world, make)
        if row.method == "POST":
            headers["Idempotency-Key"] = f"{caller}-1"
        body = body_of(row, caller, world)
        with app.test_client().open(path, method=row.method, headers=headers, json=body) as answer:
            status = str(answer.status_code)
            assert int(status) < 500, f"{caller}: {answer.get_data(as_text=True)}"
        answered[caller] = "-" if row.expected[caller] == "-" else status
    assert answered == row.expected


BELOW_A_STORE = [row for row in ROWS if row.path.startswith("/v1/stores/{store_id}/") and row.path.count("{") > 1]


@pytest.mark.parametrize("row", BELOW_A_STORE, ids=str)
def test_who_may_not_see_a_row_is_not_told_whether_it_is_there(
    row: Row, world: World, make: Factory, app: Flask
) -> None:
    """A row that is there and an id that was made up are refused alike, whatever is asked to be done with it."""
    client, store = app.test_client(), str(world.store.id)
    for caller in CALLERS:
        if row.expected[caller].startswith("2"):
            continue
        there = row.path.format_map(world.target(row.method, row.path))
        made_up = re.sub(r"\{store_id\}", store, row.path)
        made_up = re.sub(r"\{\w+\}", str(new_id()), made_up)
        headers = headers_of(caller, row, world, make) | {"Idempotency-Key": new_id().hex}
        seen_at = there[: there.rindex("/") if not row.path.endswith("}") else len(there)]
        if caller != "unscoped" and client.get(seen_at, headers=headers).status_code == 200:
            continue
        body = body_of(row, caller, world)
        answers = [client.open(path, method=row.method, headers=headers, json=body) for path in (there, made_up)]
        problems = [ujson.loads(answer.data) for answer in answers]
        refusals = [(problem["status"], problem["code"], problem["detail"]) for problem in problems]
        assert refusals[0] == refusals[1], caller
        assert refusals[0][0] in (401, 403, 404), caller


def routes_of(app: Flask) -> set[tuple[str, str]]:
    return {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_stands_in_the_table_and_no_other(app: Flask) -> None:
    assert routes_of(app) == {row.route for row in ROWS}


def test_a_bad_token_is_401_even_where_none_is_needed(client: FlaskClient) -> None:
    for row in ROWS:
        path = re.sub(r"\{\w+\}", str(new_id()), row.path)
        for header in ("Bearer dues_forged", "Bearer", "Basic dXNlcjpwYXNz"):
            answer = client.open(path, method=row.method, headers={"Authorization": header})
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), f"{row} {header}"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("bad", ["019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "42", "no-such-thing"])
def test_what_is_not_there_is_404(bad: str, client: FlaskClient, make: Factory) -> None:
    """With everything else wrong too: no body, no key, an unknown parameter."""
    headers = make.auth(make.user())
    for row in ROWS:
        if "{" in row.path:
            path = re.sub(r"\{\w+\}", bad, row.path.partition("?")[0])
            answer = client.open(f"{path}?x=1", method=row.method, headers=headers)
            assert (answer.status_code, answer.mimetype) == (404, "application/problem+json"), str(row)
            assert b'"code":"not_found"' in answer.data, str(row)
