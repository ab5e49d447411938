"""The Flask application with its routes."""

from flask import Flask

from api import packages
from api.http import UJSONProvider, init_errors
from config import Settings
from dues.app import create_base

# Every module of routes, in the order of the documentation.
MODULES = (packages.routes,)


def create_app(settings: Settings | None = None) -> Flask:
    """Raises: ConfigError when `settings` is not given and the environment's are wrong."""
    app = create_base(settings)
    app.json = UJSONProvider(app)
    app.url_map.strict_slashes = True
    init_errors(app)
    for routes in MODULES:
        routes.install(app)
    return app
