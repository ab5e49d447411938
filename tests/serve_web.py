"""gunicorn as the Procfile runs it, in a process of its own."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gunicorn.app.wsgiapp import run

# What a web server imports.
import api.app
import api.gunicorn_threads
import api.server.application
import api.server.worker  # noqa: F401
from dues import failpoints

ROOT = Path(__file__).resolve().parent.parent


def serve_web(arguments: Sequence[str], environ: Mapping[str, str], log: str) -> None:
    """Be `gunicorn` with these arguments and the settings and failpoints of `environ`; what it says goes to `log`."""
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(ROOT)
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    failpoints._armed = failpoints.parse(environ.get("DUES_FAILPOINTS", ""))
    sys.argv = ["gunicorn", *arguments]
    run()
