"""Declared routes by their paths: Flask's own map, looked up by the shape of a path instead of by patterns."""

import re
from uuid import UUID

from flask import Flask

from api.request import Request
from api.routing import Route
from dues.ids import parse_id

Ids = dict[str, UUID | None]

_ID_LETTERS = 36
_ID = re.compile(r"<(\w+)>")


class RouteMatcher:
    """Of the routes that were registered with an application."""

    def __init__(self, app: Flask) -> None:
        routes: dict[str, Route] = app.extensions["routes"]
        self._shapes: dict[tuple[str, str], tuple[Route, list[str]]] = {}
        for rule in app.url_map.iter_rules():
            if route := routes.get(rule.endpoint):
                self._shapes[route.method, _ID.sub("*", rule.rule)] = route, _ID.findall(rule.rule)

    def find(self, request: Request) -> tuple[Route, Ids] | None:
        """The route of a request, and the ids that its path names; None where there is no such route, or where an id is
        none: Flask, whose map this is, says what becomes of those."""
        parts, ids = request.path.split("/"), []
        for place, part in enumerate(parts):
            if len(part) == _ID_LETTERS and (id_ := parse_id(part)):
                ids.append(id_)
                parts[place] = "*"
        method = "GET" if request.method == "HEAD" else request.method
        found = self._shapes.get((method, "/".join(parts)))
        return (found[0], dict(zip(found[1], ids, strict=True))) if found else None
