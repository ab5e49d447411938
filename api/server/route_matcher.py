"""Declared routes by their paths: what Flask's routing does, for what is served without it."""

from collections.abc import Iterable
from uuid import UUID

from api.routing import Route
from dues.ids import parse_id

_ID_LETTERS = 36


class Paths:
    """Of the routes of one method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = {_shape(route.path): route for route in routes}

    def find(self, path: str) -> tuple[Route, dict[str, UUID]] | None:
        """The route of a path, and the ids that the path names; None where there is no such route, or an id is none."""
        parts, ids = path.split("/"), []
        for place, part in enumerate(parts):
            if len(part) == _ID_LETTERS and (id_ := parse_id(part)):
                ids.append(id_)
                parts[place] = "*"
        route = self._routes.get("/".join(parts))
        return (route, dict(zip(route.id_names, ids, strict=True))) if route else None


def _shape(path: str) -> str:
    return "/".join("*" if part.startswith("{") else part for part in path.split("/"))
