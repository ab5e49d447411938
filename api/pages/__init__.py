"""The pages that people open in a browser: the API's description with a console at `/docs`, and at `/account` what
links in mails lead to where no front end has taken that over. `/` leads to what is there.

Every file of theirs comes from here: from `files/`, or from the wheel of Swagger UI. No script stands in a page, so
that none can be put there, and no page may be framed by another.
"""

import mimetypes
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Flask, Response, request, send_from_directory

from api.flask_host import respond
from api.reply import json_reply
from dues import VERSION

_FILES = {file.name: file.read_bytes() for file in (Path(__file__).parent / "files").iterdir()}
_SWAGGER_UI = Path(flask_swagger_ui.__file__).parent / "dist"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    # A link with a code in it may have brought the reader here: nobody else is told of it.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "public, no-cache",
}

pages = Blueprint("pages", __name__)


def init_pages(app: Flask) -> None:
    app.register_blueprint(pages)


@pages.after_request
def _bind(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response


@pages.get("/")
def home() -> Response:
    """To the documentation for people, else what there is as JSON."""
    if request.accept_mimetypes.best_match(("application/json", "text/html")) == "text/html":
        return Response(status=302, headers={"Location": "/docs", "Vary": "Accept"})
    links = {"docs": "/docs", "openapi": "/openapi.json", "health": "/healthz", "ready": "/readyz"}
    return respond(json_reply({"name": "Dues", "version": VERSION, "links": links}, headers={"Vary": "Accept"}))


@pages.get("/docs", strict_slashes=False)
def docs() -> Response:
    return _own("docs.html")


@pages.get("/account", strict_slashes=False)
def account() -> Response:
    return _own("account.html")


@pages.get("/assets/<name>")
def asset(name: str) -> Response:
    """A file of a page. Raises: NotFound."""
    return _own(name) if name in _FILES else send_from_directory(_SWAGGER_UI, name)


def _own(name: str) -> Response:
    response = Response(_FILES[name], mimetype=mimetypes.guess_type(name)[0])
    response.add_etag()
    response.make_conditional(request)
    return response
