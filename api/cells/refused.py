"""Which routes a cell serves, and which the directory. Each of the others is refused, so that nobody is shown a part
for the whole. A route that is in no list here is one that spans stores, and is refused in both."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from api.routing import Route, Routes
from config import Settings
from dues.errors import Misdirected, Problem, Unsupported

_STORE = "/v1/stores/{store_id}"
_FOUND = "POST /v1/stores"
_IMPORT = "POST /v1/stores/{store_id}/imports"
# Below one store, and what the gateway sends to where its store is.
_OF_STORES = (
    "/v1/gateways/stripe/{stripe_store_id}",
    "/v1/jobs/{job_id}",
    "/v1/jobs/{job_id}/events",
    "/v1/mail-events",
    "/v1/unsubscribe",
)
# What is about a user, and about no store.
_OF_USERS = (
    "POST /v1/users",
    "/v1/tokens",
    "/v1/tokens/{token_id}",
    "/v1/me",
    "/v1/me/addresses",
    "/v1/me/addresses/{address_id}",
    "/v1/me/email-verifications",
    "/v1/email-verifications/confirmations",
    "/v1/password-resets",
    "/v1/password-resets/confirmations",
)

Refusal = Callable[[], Problem]


def served(config: Settings, modules: Sequence[Routes]) -> list[Routes]:
    """The routes as an application with these settings serves them; without cells, all as they are."""
    if not (config.cells or config.cell):
        return list(modules)
    return [_served(config, module) for module in modules]


def _served(config: Settings, module: Routes) -> Routes:
    found = Routes(module.name, examples=module.examples, bodies=module.bodies)
    found.all = [replace(route, refused=refusal(config, route)) for route in module.all]
    return found


def refusal(config: Settings, route: Route) -> Refusal | None:
    """What is answered instead; None for a route that is served."""
    if str(route) == _FOUND:
        return None if config.cell else _by_the_gateway(config)
    if route.path == _STORE or route.path.startswith(_STORE + "/"):
        return _no_accounts if config.cell and str(route) == _IMPORT else None
    if _is_among(route, _OF_STORES):
        return None
    if _is_among(route, _OF_USERS):
        return _of_the_directory(config) if config.cell else None
    return _spans


def _is_among(route: Route, names: Sequence[str]) -> bool:
    return route.path in names or str(route) in names


def _by_the_gateway(config: Settings) -> Refusal:
    return lambda: Misdirected("cells have the stores: ask at the public address", address=config.public_url)


def _of_the_directory(config: Settings) -> Refusal:
    return lambda: Misdirected("the directory of cells has the accounts", address=config.public_url)


def _no_accounts() -> Problem:
    return Unsupported("a file may name people without an account, and a cell makes none")


def _spans() -> Problem:
    return Unsupported("this is about all stores, which are in several cells: ask each store")
