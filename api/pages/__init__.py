"""The pages that people open in a browser: the API's description with a console at `/docs`, and at `/account` what
links in mails lead to where no front end has taken that over. `/` leads to what is there.

Every file of theirs comes from here: from `files/`, or from the wheel of Swagger UI. No script stands in a page, so
that none can be put there, and no page may be framed by another.

Scripts, styles and pictures are **assets**, which have a hash of their content in their names: whoever has one never
asks for it again, and a page always gets the assets that it was written with.
"""

import mimetypes
import re
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import flask_swagger_ui
from flask import Blueprint, Flask, Response, request

from api.flask_host import respond
from api.reply import json_reply
from dues import VERSION
from dues.cdn import IMMUTABLE
from dues.errors import NotFound

_FOLDERS = (Path(__file__).parent / "files", Path(flask_swagger_ui.__file__).parent / "dist")
_NAMED = re.compile(r"/assets/([A-Za-z0-9._-]+)")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Frame-Options": "DENY",
    # A link with a code in it may have brought the reader here: nobody else is told of it.
    "Referrer-Policy": "no-referrer",
}


class Asset(NamedTuple):
    content: bytes
    mimetype: str | None


_assets: dict[str, Asset] = {}


def _page(name: str) -> bytes:
    """A page whose references to assets are those of `_assets`, where they are put."""
    return _NAMED.sub(lambda found: f"/assets/{_add_asset(found[1])}", _read(name).decode()).encode()


def _add_asset(name: str) -> str:
    """Returns: the name by which it is served."""
    content = _read(name)
    stem, _, ending = name.rpartition(".")
    hashed = f"{stem}.{blake2b(content, digest_size=12).hexdigest()}.{ending}"
    _assets[hashed] = Asset(content, mimetypes.guess_type(name)[0])
    return hashed


def _read(name: str) -> bytes:
    found = [folder / name for folder in _FOLDERS if (folder / name).is_file()]
    return found[0].read_bytes()


_DOCS, _ACCOUNT = _page("docs.html"), _page("account.html")

pages = Blueprint("pages", __name__)


def init_pages(app: Flask) -> None:
    app.register_blueprint(pages)


@pages.after_request
def _bind(response: Response) -> Response:
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "public, no-cache")
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
    return _conditional(Response(_DOCS, mimetype="text/html"))


@pages.get("/account", strict_slashes=False)
def account() -> Response:
    return _conditional(Response(_ACCOUNT, mimetype="text/html"))


@pages.get("/assets/<name>")
def asset(name: str) -> Response:
    """Raises: NotFound for anything that no page refers to, the asset of another release among it."""
    found = _assets.get(name)
    if found is None:
        raise NotFound("there is no such resource")
    return _conditional(Response(found.content, mimetype=found.mimetype, headers={"Cache-Control": IMMUTABLE}))


def _conditional(response: Response) -> Response:
    response.add_etag()
    response.make_conditional(request)
    return response
