"""The Flask application with its routes."""

from flask import Flask

from api.flask_host import init_flask_host
from api.openapi.document import init_openapi
from api.pages import init_pages
from api.routes import (
    accounts,
    batch,
    comments,
    customers,
    documents,
    feeds,
    follows,
    invoices,
    jobs,
    metrics,
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
    customers.routes,
    documents.routes,
    subscriptions.routes,
    invoices.routes,
    metrics.routes,
    reports.routes,
    posts.routes,
    comments.routes,
    follows.routes,
    feeds.routes,
    webhooks.routes,
    jobs.routes,
    batch.routes,
)


def create_app(settings: Settings | None = None) -> Flask:
    """Raises: ConfigError when `settings` is not given and the environment's are wrong."""
    app = create_base(settings)
    config: Settings = app.extensions["settings"]
    share_threads(config.web_threads)
    init_flask_host(app, MODULES)
    init_system(app, config)
    init_openapi(app, MODULES)
    init_pages(app)
    return app
