"""The settings of the running application, for code below the web."""

from flask import current_app

from config import Settings


def settings() -> Settings:
    """Those that `create_base()` was given. Needs an application context."""
    current: Settings = current_app.extensions["settings"]
    return current
