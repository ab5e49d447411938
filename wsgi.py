"""The Flask application as plain WSGI: `gunicorn wsgi:app` is a complete server."""

from api.app import create_app

app = create_app()
