"""However a path is spelt: what is found there is the route that was meant, with the ids that it names, or nothing; and
what a caller may do in one store is nowhere taken for what they may do in another."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from flask import Flask
from werkzeug.exceptions import HTTPException

from api.app import MODULES
from api.request import make_request
from api.route_matcher import RouteMatcher
from api.serving import answer
from dues.ids import new_id, parse_id
from dues.stores.access import Access
from tests.factory import Factory

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "capitals": lambda path: "/".join(part.upper() if parse_id(part) else part for part in path.split("/")),
    "capitals everywhere": str.upper,
    "two slashes": lambda path: "/" + path,
    "two slashes inside": lambda path: path.replace("/stores/", "/stores//"),
    "a slash behind": lambda path: path + "/",
    "an encoded slash": lambda path: "/%2f" + path[1:],
    "an encoded slash inside": lambda path: path.replace("/stores/", "/stores%2F"),
    "an encoded letter": lambda path: path.replace("stores", "%73tores"),
    "a dot": lambda path: "/." + path,
    "two dots": lambda path: "/v1/x/.." + path,
    "two encoded dots": lambda path: "/v1/%2e%2e" + path,
    "absolute": lambda path: "http://elsewhere" + path,
    "a parameter of the path": lambda path: path + ";a=b",
    "a backslash": lambda path: path.replace("/stores/", "/stores\\"),
    "a blank": lambda path: path + "%20",
    "an id in braces": lambda path: "/".join(f"{{{part}}}" if parse_id(part) else part for part in path.split("/")),
    "an id without hyphens": lambda path: "/".join(
        part.replace("-", "") if parse_id(part) else part for part in path.split("/")
    ),
}
ROUTES = [route for module in MODULES for route in module.all]


# The same path to whoever reads it (RFC 9562, 4; RFC 9112, 3.2.2); all others are none.
SAME = {"as it is", "capitals", "absolute"}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_is_found_is_what_was_meant(app: Flask, spelling: str):
    matcher = RouteMatcher(app)
    for route in ROUTES:
        ids = {name: new_id() for name in route.id_names}
        plain = route.path.format(**ids)
        path = SPELLINGS[spelling](plain)
        request = make_request(route.method, path, {}, "")
        is_same = spelling in SAME or path == plain
        assert matcher.find(request) == ((route, ids) if is_same else None), path
        # Flask's own map, which `gunicorn wsgi:app` goes by, agrees. (No path of ours is refused before it is asked.)
        with suppress(HTTPException):
            endpoint, texts = app.url_map.bind("").match(request.path, method=route.method)
            named = {name: parse_id(text) for name, text in texts.items()}
            if request.path and all(named.values()):
                assert (app.extensions["routes"][endpoint], named, is_same) == (route, ids, True), path


def test_the_url_that_is_built_of_a_route_leads_to_it(app: Flask):
    urls = app.url_map.bind("")
    for endpoint, route in app.extensions["routes"].items():
        ids = {name: new_id() for name in route.id_names}
        built = urls.build(endpoint, ids | {"page": "a b"}, method=route.method)
        assert built == route.path.format(**ids) + "?page=a+b"


def test_a_right_in_one_store_is_none_in_another(app: Flask, make: Factory):
    """Also where a server, by some mistake, says that it knows the caller already."""
    own, victim = make.store(owner := make.user()), make.store()
    fields = {"authorization": make.auth(owner)["Authorization"]}
    reads = [route for route in ROUTES if route.role and not route.writes]
    known: list[Access] = []
    with app.app_context():
        for store in (own, victim):
            for route in reads:
                ids = {name: store.id if name == "store_id" else new_id() for name in route.id_names}
                request = make_request("GET", route.path.format(**ids), fields, "")
                if store is own and not known:
                    answer(route, ids, request, count=known.append)
                    assert known[0].role == "owner"
                status = answer(route, ids, request, known=known[0]).status
                assert status in ((200, 404) if store is own else (403,)), route
    assert len(reads) > 5
