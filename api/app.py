"""The Flask application with its routes."""

from flask import Flask

from api.compress import Compression
from api.http import NoSessions, UJSONProvider, init_errors
from api.limits import init_limits
from api.openapi.document import init_openapi
from api.pages import init_pages
from api.request import refuse_other_spellings
from api.routes import (
    accounts,
    comments,
    documents,
    follows,
    invoices,
    jobs,
    packages,
    payments,
    posts,
    recovery,
    reports,
    stores,
    subscriptions,
    tokens,
    webhooks,
)
from api.system import init_system
from api.telemetry import init_telemetry
from api.threaded import init_threaded
from config import Settings
from dues.accounts.passwords import share_threads
from dues.app import create_base

# Every module of routes, in the order of the documentation.
MODULES = (
    accounts.routes,
    tokens.routes,
    recovery.routes,
    stores.routes,
    packages.routes,
    payments.routes,
    documents.routes,
    subscriptions.routes,
    invoices.routes,
    reports.routes,
    posts.routes,
    comments.routes,
    follows.routes,
    webhooks.routes,
    jobs.routes,
)


def create_app(settings: Settings | None = None) -> Flask:
    """Raises: ConfigError when `settings` is not given and the environment's are wrong."""
    app = create_base(settings)
    config: Settings = app.extensions["settings"]
    app.json = UJSONProvider(app)
    app.session_interface = NoSessions()
    app.url_map.strict_slashes = True
    # A path is served as it is spelt (api/request.py), never by way of a redirect to what it might have meant.
    app.url_map.merge_slashes = False
    # Refused before it is read into memory; api/body.py bounds what it decodes to. One more, because a body without a
    # declared length is cut off here, and must be seen to be too long.
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes + 1
    share_threads(config.web_threads)
    init_telemetry(app, config.slow_request_s)
    app.before_request(refuse_other_spellings)
    init_limits(app)
    Compression(app)
    init_errors(app)
    for routes in MODULES:
        routes.install(app)
    init_system(app, config)
    init_openapi(app, MODULES)
    init_pages(app)
    init_threaded(app)
    return app
