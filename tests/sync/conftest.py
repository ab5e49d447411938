"""A store with an owner and a member, and their devices."""

from collections.abc import Callable
from types import SimpleNamespace as Made
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.sync.device import Device, sender

MakeDevice = Callable[..., Device]


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
