"""The base application: configuration, database and commands, no routes.

Workers, the relay and the command line use it as it is; `api/app.py` adds the routes.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from flask import Flask

from config import Settings, load_settings
from dues import cdn as edge
from dues import events
from dues.billing import credit_notes, methods, numbering, settlement
from dues.billing.commands import init_billing
from dues.jobs.commands import init_jobs
from dues.mail.commands import init_mail
from dues.payments import processing
from dues.postgres import init_db
from dues.postgres.migrate import init_migrate
from dues.reads.freshness import init_cache
from dues.reports import service as reports
from dues.social import counters
from dues.stores import clock
from dues.webhooks import deliveries

# Imported for the functions they register for the end of jobs (dues/jobs/on_failure.py), whichever process ends them.
ENDINGS: tuple[ModuleType, ...] = (processing, reports, deliveries, clock)
# Imported for what they add to each commit (dues/postgres/transactions.py), which is done in this order.
COMMITS: tuple[ModuleType, ...] = (edge, numbering, events, counters)
# Imported for what they do when a payment or a payment method has changed, whichever process changes it.
PAYMENTS: tuple[ModuleType, ...] = (settlement, credit_notes, methods)


class Base(Flask):
    """Flask, all of whose views and hooks are plain functions: it need not look for coroutines among them each time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_base(settings: Settings | None = None) -> Flask:
    """A Flask application around the business, with `app.extensions["settings"]` set.

    Raises: ConfigError when `settings` is not given and the environment's are wrong.
    """
    settings = settings or load_settings()
    app = Base("dues", static_folder=None)
    app.extensions["settings"] = settings
    app.config["SECRET_KEY"] = settings.secret_key
    init_db(app, settings)
    init_cache(app, settings)
    init_migrate(app)
    init_jobs(app)
    init_mail(app)
    init_billing(app)
    return app
