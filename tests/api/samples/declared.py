"""How a module of routes says what it is tried with: `SAMPLES`, in the file here that is named as its `Routes` are.

From it come the table of who may do what (tests/api/test_access.py), the writes and reads after which nothing may be
stale (tests/api/test_staleness.py) and the rows for whatever ids a path names (tests/api/world.py).
tests/api/test_complete.py tells what a new route lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace as Row
from typing import TYPE_CHECKING, Any

from api.app import MODULES

__all__ = [
    "ALL",
    "BODIES",
    "FINISHED",
    "OF_ROUTE",
    "READS",
    "ROWS",
    "FileBody",
    "Row",
    "Samples",
    "Target",
    "sent_with",
]

if TYPE_CHECKING:
    from tests.api.world import World


@dataclass(frozen=True)
class FileBody:
    """A file, and the query that it is sent with."""

    content: str
    media_type: str
    query: str = ""


Body = Mapping[str, Any] | Callable[["World", str], Mapping[str, Any] | None] | FileBody


def sent_with(body: "Mapping[str, Any] | FileBody | None") -> dict[str, Any]:
    """How a test client sends a body."""
    if isinstance(body, FileBody):
        return {"data": body.content, "content_type": body.media_type, "query_string": body.query}
    return {"json": body}


@dataclass
class Target:
    """A request that is to be made. `rows` are those of the ids in its path so far, by the ids' names; `store_id` is
    always among them. They belong to `world.customer` where they belong to somebody."""

    world: "World"
    method: str
    path: str
    rows: dict[str, Row]


@dataclass(frozen=True)
class Samples:
    """What the routes of one module are tried with.

    access: a line for each route: its method and path, its scope, and the status that each kind of caller gets.
    bodies: by method and path one that nothing is wrong with, for every route that takes one; `{caller}` in a text
    keeps apart what must be unique. A function of the world and the caller's name, where the body depends on them.
    reads: what is read after every write, with all that can be included; finished: those that no write changes.
    rows: for each id in a path that is this module's, what makes a row for it.
    arrange: what else has to be there before a request to one of its routes.
    """

    access: str
    bodies: Mapping[str, Body] = field(default_factory=dict)
    reads: Sequence[str] = ()
    finished: Sequence[str] = ()
    rows: Mapping[str, Callable[[Target], Row]] = field(default_factory=dict)
    arrange: Callable[[Target], None] | None = None


def _load(name: str) -> Samples | None:
    module = f"tests.api.samples.{name}"
    return import_module(module).SAMPLES if find_spec(module) else None


# In the order of the documentation.
ALL: dict[str, Samples] = {module.name: found for module in MODULES if (found := _load(module.name))}
ROWS = {name: make for samples in ALL.values() for name, make in samples.rows.items()}
BODIES = {where: body for samples in ALL.values() for where, body in samples.bodies.items()}
READS = [path for samples in ALL.values() for path in samples.reads]
FINISHED = {path for samples in ALL.values() for path in samples.finished}
OF_ROUTE = {str(route): ALL[module.name] for module in MODULES if module.name in ALL for route in module.all}
