"""The settings of the running application, for code below the web."""

from urllib.parse import urlsplit

from flask import current_app

from config import Settings


def settings() -> Settings:
    """Those that `create_base()` was given. Needs an application context."""
    current: Settings = current_app.extensions["settings"]
    return current


def site() -> str:
    """The public address without its scheme and path, as mails name the service to people."""
    return urlsplit(settings().public_url).netloc
