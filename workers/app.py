"""The application as workers and the relay use it: the business without routes."""

import msgspec
from flask import Flask

from config import Settings, settings_or_exit
from dues.app import create_base

# The handler's own, the one that renews its lease, and one for what a handler does beside its transaction.
_CONNECTIONS = 3


def create_worker_app(settings: Settings | None = None) -> Flask:
    """Without `settings` they are the environment's; where those are wrong the process ends with a line about each."""
    settings = settings or settings_or_exit()
    if settings.db_pool_size < _CONNECTIONS:
        settings = msgspec.structs.replace(settings, db_pool_size=_CONNECTIONS)
    return create_base(settings)
