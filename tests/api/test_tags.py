"""Every write names the tags of the answers that it puts out of date (dues/reads/tags.py)."""

import pytest

from dues.accounts.tokens import hash_token
from dues.postgres import transactions as db
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads.tags import token_tag
from tests.factory import Factory
from tests.rows.people import PASSWORD


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The tags that each unit of work named, in the order of their commits."""
    seen: list[set[str]] = []

    def look(work: UnitOfWork) -> None:
        seen.append(set(work.tags))

    monkeypatch.setattr(db, "_before_commit", [*db._before_commit, look])
    return seen


def test_accounts(client, make: Factory, touched: list[set[str]]):
    user = make.user()
    auth = make.auth(user)
    mine = f"user:{user.id}"
    new = client.post("/v1/users", json={"email": "a@example.com", "name": "A", "password": "first programme"}).json[
        "id"
    ]
    client.patch("/v1/me", json={"email": "new@example.com", "current_password": PASSWORD}, headers=auth)
    address = client.post("/v1/me/addresses", json={"line1": "a", "city": "b", "country": "DE"}, headers=auth)
    url = address.headers["Location"]
    client.patch(url, json={"is_default": True}, headers=auth)
    client.delete(url, headers=auth)
    assert touched == [{f"user:{new}"}, {mine}, {mine}, {mine}, {mine}]


def test_a_new_name_shows_wherever_one_works_and_buys(client, make: Factory, touched: list[set[str]]):
    user = make.user()
    own, works, buys, other = make.store(user), make.store(), make.store(), make.store()
    make.staff(works, user)
    make.payment(buys, user)
    make.payment(other)
    client.patch("/v1/me", json={"name": "New"}, headers=make.auth(user))
    shown_in = {f"store:{own.id}", f"store:{works.id}", f"store:{buys.id}:customers"}
    assert touched == [{f"user:{user.id}"} | shown_in]


def test_tokens(client, make: Factory, touched: list[set[str]]):
    user = make.user()
    auth = make.auth(user)
    tokens = f"user:{user.id}:tokens"
    log_in = {"email": user.email, "password": PASSWORD}
    # The first log-in makes the cheap hash of tests anew.
    client.post("/v1/tokens", json=log_in)
    client.post("/v1/tokens", json=log_in)
    token = client.post("/v1/tokens", json={"name": "x", "scopes": ["account:read"]}, headers=auth)
    client.delete(token.headers["Location"], headers=auth)
    client.patch("/v1/me", json={"password": "first programme", "current_password": PASSWORD}, headers=auth)
    made, revoked = token_tag(hash_token(token.json["token"])), touched[4] - {tokens, f"user:{user.id}"}
    assert touched[:4] == [{tokens, f"user:{user.id}"}, {tokens}, {tokens}, {tokens, made}]
    # Those of the two log-ins: the one that asks stays, and the narrower one is revoked already.
    assert len(revoked) == 2
    assert all(tag.startswith("token:") for tag in revoked - {made})


def test_stores_and_staff(client, make: Factory, touched: list[set[str]]):
    user, heir = make.user(), make.user()
    auth = make.auth(user)
    url = client.post("/v1/stores", json={"name": "Gym", "currency": "EUR"}, headers=auth).headers["Location"]
    store = f"store:{url.rpartition('/')[2]}"
    client.patch(url, json={"name": "Hall"}, headers=auth)
    client.put(f"{url}/staff/{heir.id}", json={"role": "owner"}, headers=auth)
    client.delete(f"{url}/staff/{user.id}", headers=auth)
    assert touched == [
        {"stores", store, f"user:{user.id}", f"user:{user.id}:sees"},
        {"stores", store},
        {store, f"user:{heir.id}:sees"},
        {"stores", store, f"user:{user.id}", f"user:{user.id}:sees", f"user:{heir.id}"},
    ]


def test_packages(client, make: Factory, touched: list[set[str]]):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    path = f"/v1/stores/{store.id}/packages"
    package = client.post(path, json={"name": "Gold", "amount": 1, "interval": "once"}, headers=auth)
    url = package.headers["Location"]
    client.patch(url, json={"amount": 2}, headers=auth)
    client.delete(url, headers=auth)
    assert touched == [{f"store:{store.id}:packages", "packages"}] * 3


def test_webhook_endpoints(client, make: Factory, touched: list[set[str]]):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    path = f"/v1/stores/{store.id}/webhook-endpoints"
    url = client.post(path, json={"url": "https://1.1.1.1/", "enabled": False}, headers=auth).headers["Location"]
    client.patch(url, json={"description": "Till"}, headers=auth)
    client.post(f"{url}/secrets", headers=auth)
    client.delete(url, headers=auth)
    assert touched == [{f"store:{store.id}:webhooks"}] * 4
