"""What the Procfile has gunicorn serve: the fast host of the declared routes (api/server/)."""

from api.server.application import Application
from wsgi import app as flask_app

app = Application(flask_app)
