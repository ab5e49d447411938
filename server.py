"""What the Procfile has gunicorn serve: the fast host of the declared routes (api/server/)."""

from api.server.cells import application_for
from wsgi import app as flask_app

app = application_for(flask_app)
