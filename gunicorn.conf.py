"""How gunicorn runs Dues. Every number comes from config.py."""

from config import load_settings

_settings = load_settings()

# gunicorn would take $PORT alone to mean every interface.
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
threads = _settings.web_threads
worker_class = "uvicorn_worker.UvicornWorker"
timeout = 30
graceful_timeout = 25
keepalive = 30
backlog = 1024
# Gunicorn's control socket would be shared by every instance of this user's home.
control_socket_disable = True
# No proxy is trusted by its name alone: see docs/operating.md for serving behind one.
forwarder_headers = ""
accesslog = None
