"""Which routes a cell serves, and which the directory."""

import msgspec
import pytest

from api.app import MODULES
from api.auth import PUBLIC
from api.cells.refused import _OF_STORES, _OF_USERS, refusal, served
from api.routing import Call, Route
from config import Settings

pytestmark = pytest.mark.unit

LEAST = Settings(database_url="postgresql://u@h/d", redis_url="redis://h", secret_key="k" * 32)
DIRECTORY = msgspec.structs.replace(LEAST, cells="a=http://h:1")
CELL = msgspec.structs.replace(LEAST, cell="a=http://h:1")
ROUTES = [route for module in MODULES for route in module.all]


def status(settings: Settings, route: Route) -> int:
    """200 where it is served."""
    refused = refusal(settings, route)
    return refused().status if refused else 200


def test_without_cells_all_routes_are_as_they_are_declared():
    assert [route for module in served(LEAST, MODULES) for route in module.all] == ROUTES


def test_a_route_that_nobody_has_placed_is_refused():
    def never(call: Call) -> None:
        raise AssertionError

    route = Route("GET", "/v1/coupons", never, PUBLIC)  # type: ignore[arg-type]
    assert (status(DIRECTORY, route), status(CELL, route)) == (501, 501)


def test_the_lists_name_routes_that_there_are():
    assert {*_OF_STORES, *_OF_USERS} <= {route.path for route in ROUTES} | {str(route) for route in ROUTES}


def test_what_is_below_a_store_is_served_by_both():
    below = [route for route in ROUTES if route.path.startswith("/v1/stores/{store_id}/")]
    refused = {str(route): (status(DIRECTORY, route), status(CELL, route)) for route in below}
    assert {name: both for name, both in refused.items() if both != (200, 200)} == {
        "POST /v1/stores/{store_id}/imports": (200, 501)
    }


def test_accounts_are_the_directorys_and_new_stores_the_cells():
    of_users = [route for route in ROUTES if route.path in _OF_USERS or str(route) in _OF_USERS]
    assert {(status(DIRECTORY, route), status(CELL, route)) for route in of_users} == {(200, 421)}
    (founding,) = [route for route in ROUTES if str(route) == "POST /v1/stores"]
    assert (status(DIRECTORY, founding), status(CELL, founding)) == (421, 200)
