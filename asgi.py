"""What the Procfile has gunicorn serve: the front door around the Flask application."""

from a2wsgi import WSGIMiddleware

from wsgi import app as flask_app

app = WSGIMiddleware(flask_app, workers=flask_app.extensions["settings"].web_threads)
