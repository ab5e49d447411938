"""The Flask application as plain WSGI: `gunicorn wsgi:app` is a complete server."""

from api.app import create_app
from config import settings_or_exit
from dues.observability.logs import start_logging

_settings = settings_or_exit()
start_logging(_settings.log_level)
app = create_app(_settings)
