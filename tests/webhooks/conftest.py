"""A receiver, and an application that may reach it; workers that run when a test says so."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from api.app import create_app
from dues.postgres import db
from tests.factory import Factory
from tests.kept_connections import kept_connections
from tests.payments.conftest import Work
from tests.servers import Servers
from tests.webhooks.hooks import Hooks
from tests.webhooks.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def configured(servers: Servers, clean: None) -> Iterator[Callable[..., Flask]]:
    """`configured(webhook_timeout_s=1)` is an application with these settings, which may reach this machine."""
    with ExitStack() as stack:

        def configure(**changes: Any) -> Flask:
            app = create_app(servers.settings(**{"webhook_allowed_hosts": "127.0.0.1"} | changes))
            stack.callback(_dispose, app)
            return app

        yield configure


def _dispose(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="session")
def reaching(servers: Servers) -> Iterator[Flask]:
    """An application that may reach this machine."""
    app = create_app(servers.settings(webhook_allowed_hosts="127.0.0.1"))
    with kept_connections(app):
        yield app


@pytest.fixture
def hooks(reaching: Flask, receiver: Receiver, make: Factory) -> Hooks:
    """A store whose receiver may be told of its events."""
    return Hooks(reaching, receiver, make, Work(reaching, make))
