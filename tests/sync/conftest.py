"""A store with an owner and a member, and their devices."""

from collections.abc import Callable
from types import SimpleNamespace as Made
from typing import Any

import pytest
import ujson
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.sync.device import Device, sender

MakeDevice = Callable[..., Device]
Get = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def owner(make: Factory) -> Made:
    return make.user()


@pytest.fixture
def member(make: Factory) -> Made:
    return make.user()


@pytest.fixture
def store(make: Factory, owner: Made) -> Made:
    return make.store(owner)


@pytest.fixture
def device_of(client: FlaskClient, make: Factory) -> MakeDevice:
    """A new device of a user, with a token of its own, for which `scopes` and `store` are."""

    def device_of(user: Made, *scopes: str, store: Made | None = None, **members: Any) -> Device:
        return Device(sender(client, make.auth(user, *scopes, store=store)), **members)

    return device_of


@pytest.fixture
def device(device_of: MakeDevice, member: Made) -> Device:
    """The member's."""
    return device_of(member)


@pytest.fixture
def get(client: FlaskClient, make: Factory, member: Made) -> Get:
    """GET /v1/sync as the member, or with other headers."""
    auth = make.auth(member)

    def get(headers: dict[str, str] = auth, **query: str) -> tuple[int, dict[str, Any]]:
        answer = client.get("/v1/sync", query_string=query, headers=headers)
        return answer.status_code, ujson.loads(answer.data)

    return get


@pytest.fixture
def life(make: Factory, store: Made, member: Made, owner: Made) -> None:
    """Something of each type, of the member and of others, in the store and elsewhere."""
    gold, silver = make.package(store, name="Gold"), make.package(store, name="Silver")
    make.package(make.store(), name="Of another store")
    make.subscription(store, member, package=gold)
    make.payment(store, member), make.payment(store), make.payment(make.store(), member)
    make.address(member), make.address(owner)
    posts = [
        make.post(owner, store=store, privacy="members", body="For members"),
        make.post(owner, store=store, privacy="members", package_ids=[gold.id], body="For gold"),
        make.post(owner, store=store, privacy="members", package_ids=[silver.id], body="For silver"),
        make.post(owner, store=store, privacy="private", body="For staff"),
        make.post(owner, store=store, privacy="followers", body="For followers"),
        make.post(owner, store=store, status="draft", body="Not yet"),
        make.post(owner, store=store, body="For all"),
        make.post(member, privacy="private", body="Mine"),
        make.post(owner, body="Elsewhere"),
    ]
    make.comment(posts[0], member), make.comment(posts[0], owner)
    make.like(posts[0], member), make.like(posts[0], owner)
    make.follow(member, owner), make.follow(owner, member)
