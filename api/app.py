"""The Flask application with its routes."""

from flask import Flask

from api.cells.pages import init_cells
from api.cells.refused import served
from api.flask_host import init_flask_host
from api.openapi.document import init_openapi
from api.pages import init_pages
from api.routing import Routes
from api.system import init_system
from config import Settings
from dues.accounts.passwords import share_threads
from dues.app import create_base
from dues.slices import load

# The routes of every module, in the order of the documentation.
MODULES: tuple[Routes, ...] = tuple(module.routes for module in load("routes"))


def create_app(settings: Settings | None = None) -> Flask:
    """Without `settings` they are the environment's; where those are wrong the process ends with a line about each."""
    app = create_base(settings)
    config: Settings = app.extensions["settings"]
    share_threads(config.web_threads)
    init_flask_host(app, served(config, MODULES))
    init_system(app, config)
    init_cells(app, config)
    init_openapi(app, MODULES)
    init_pages(app)
    return app
