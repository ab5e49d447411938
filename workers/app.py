"""The application as workers and the relay use it: the business without routes."""

import msgspec
from flask import Flask

from config import Settings, load_settings
from dues.app import create_base

# The handler's own, the one that renews its lease, and one for what a handler does beside its transaction.
_CONNECTIONS = 3


def create_worker_app(settings: Settings | None = None) -> Flask:
    """Raises: ConfigError when `settings` is not given and the environment's are wrong."""
    settings = settings or load_settings()
    if settings.db_pool_size < _CONNECTIONS:
        settings = msgspec.structs.replace(settings, db_pool_size=_CONNECTIONS)
    return create_base(settings)
