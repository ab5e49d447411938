"""What the Procfile has gunicorn serve: the front door around the Flask application."""

from api.server.application import FrontDoor
from wsgi import app as flask_app

app = FrontDoor(flask_app)
