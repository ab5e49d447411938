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

# Those who have a say in how jobs end (dues/jobs/on_failure.py), whichever process ends them.
ENDINGS: tuple[ModuleType, ...] = (processing, reports, deliveries, clock)
# Those who add to a commit (dues/postgres/transactions.py), whichever process commits.
COMMITS: tuple[ModuleType, ...] = (edge, numbering, events, counters)
# Those who act on what becomes of payments and payment methods, whichever process writes that.
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
