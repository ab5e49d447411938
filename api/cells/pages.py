"""What the directory and its cells ask one another. Each request is signed; the gateway passes none of them on."""

from typing import TypeVar

import msgspec
from flask import Blueprint, Flask, Response, current_app, g
from flask import request as flask_request
from msgspec import Struct

from api.cells import directing
from api.flask_host import respond
from api.http import problem_of, problem_reply
from api.reply import json_reply
from api.request import Request
from config import Settings
from dues.cells import places
from dues.cells.copies import News, write_news
from dues.cells.signatures import SIGNED, SIGNED_BY, addresses, own_name, require_signed
from dues.errors import BadRequest, Misdirected
from dues.ids import parse_id
from dues.postgres import fetch_row, transaction

_JOB = "select store_id from jobs where id = %(id)s"
_STORE = "select id from stores where id = %(id)s"

S = TypeVar("S", bound=Struct)


class Placing(Struct):
    """A store goes to the cell `to` (empty: the directory), or is about to where it `checks`."""

    store_id: str
    to: str
    checks: bool


def init_cells(app: Flask, config: Settings) -> None:
    if config.cells:
        app.register_blueprint(_directory())
    if config.cell:
        app.register_blueprint(_cell())


def _directory() -> Blueprint:
    pages = Blueprint("cells", __name__)
    pages.add_url_rule(directing.PATH, view_func=_question, methods=["GET"])
    pages.add_url_rule("/cells/places", view_func=_place, methods=["POST"])
    return pages


def _cell() -> Blueprint:
    pages = Blueprint("cells", __name__)
    pages.add_url_rule("/cells/people", view_func=_people, methods=["POST"])
    pages.add_url_rule("/cells/jobs/<job_id>", view_func=_job, methods=["GET"])
    pages.add_url_rule("/cells/stores/<store_id>", view_func=_store, methods=["GET"])
    return pages


def _question() -> Response:
    asked = directing.asked_request(g.request)
    try:
        return respond(directing.direct(asked, current_app.extensions["counting"]))
    except Exception as error:
        return respond(problem_reply(problem_of(error, asked.id), asked))


def _place() -> Response:
    """A cell says where a store goes that it has."""
    origin = g.request.fields.get(SIGNED_BY, "")
    if origin not in addresses():
        raise Misdirected("this is asked by cells alone")
    asked = _signed(origin, Placing)
    if (store_id := parse_id(asked.store_id)) is None:
        raise BadRequest("this is no id")
    if asked.checks:
        places.require_move(store_id, origin, asked.to)
    else:
        with transaction():
            places.put(store_id, origin, asked.to)
    return _done({})


def _people() -> Response:
    """The directory tells of an account."""
    news = _signed(own_name(), News)
    with transaction():
        write_news(news)
    return _done({})


def _job(job_id: str) -> Response:
    """The directory asks whether there is such a job, and of which store."""
    _require_signed(own_name())
    row = fetch_row(_JOB, {"id": parse_id(job_id)})
    return _done({"store_id": str(row[0]) if row and row[0] else None})


def _store(store_id: str) -> Response:
    _require_signed(own_name())
    return _done({"is_here": fetch_row(_STORE, {"id": parse_id(store_id)}) is not None})


def _done(document: dict[str, object]) -> Response:
    return respond(json_reply(document, headers={"Cache-Control": "no-store"}))


def _signed(name: str, kind: type[S]) -> S:
    """The body, which is one of this kind. Raises: Misdirected; BadRequest."""
    body = _require_signed(name)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise BadRequest("the other server is of another release") from error


def _require_signed(name: str) -> bytes:
    request: Request = g.request
    body = flask_request.get_data()
    require_signed(name, request.fields.get(SIGNED), request.method, request.path, body)
    return body
