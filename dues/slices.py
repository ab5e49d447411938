"""The one list of what Dues is made of. A new slice, or a new module of routes, jobs or hooks, is named here.

It has names and imports nothing, because each process loads its own part: `dues/app.py` the hooks, which every process
needs, and the commands when one is typed; `api/app.py` the routes, `workers/registry.py` the handlers of jobs.
tests/test_house.py fails for a module that declares something of the kind and is not named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

Part = Literal["hooks", "commands", "routes", "jobs"]
_FOLDERS: dict[Part, str] = {"hooks": "dues", "commands": "dues", "routes": "api.routes", "jobs": "workers"}


@dataclass(frozen=True)
class Slice:
    """One part of the business, or of the core beneath it, and the names of its modules.

    hooks: below `dues`, those that register a function by a decorator: for each commit (`before_commit`), for jobs that
    end without success (`when_ended`), for what has become of a payment (`when_settled`), and the like.
    commands: below `dues`, the module whose `command` is added to those of `flask`.
    routes: below `api.routes`, those that declare `routes`, in the order of the API's documentation.
    jobs: below `workers`, those that declare handlers with `@job`.
    """

    name: str
    hooks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()


# In the order of the API's documentation.
SLICES = (
    Slice("accounts", routes=("accounts", "tokens", "recovery"), jobs=("accounts",)),
    Slice("stores", hooks=("stores.clock",), routes=("stores",), jobs=("clocks",)),
    Slice("cells", commands=("cells.commands",), jobs=("cells",)),
    Slice("packages", routes=("packages",)),
    Slice(
        "payments",
        hooks=("payments.processing", "payments.setups"),
        commands=("payments.commands",),
        routes=("payments", "gateways"),
        jobs=("payments", "gateways"),
    ),
    Slice("documents", routes=("documents",)),
    Slice(
        "billing",
        hooks=(
            "billing.numbering",
            "billing.settlement",
            "billing.credit_notes",
            "billing.disputes",
            "billing.methods",
        ),
        commands=("billing.commands",),
        routes=("customers", "subscriptions", "invoices", "metrics"),
        jobs=("subscriptions",),
    ),
    Slice("subscriptions"),
    Slice("reports", hooks=("reports.service",), routes=("reports",), jobs=("reports",)),
    Slice("imports", hooks=("imports.service",), routes=("imports",), jobs=("imports",)),
    # The counters after the events: both lock what others wait for, until the commit.
    Slice("events", hooks=("events",)),
    Slice("social", hooks=("social.counters",), routes=("posts", "comments", "follows"), jobs=("posts",)),
    Slice("feeds", routes=("feeds",)),
    Slice("mailings", hooks=("mailings.service",), routes=("mailings",), jobs=("mailings",)),
    Slice("profiles"),
    Slice("webhooks", hooks=("webhooks.deliveries",), routes=("webhooks",), jobs=("webhooks",)),
    Slice("moves", hooks=("moves.states",), commands=("moves.commands",)),
    Slice("mail", hooks=("mail.commands",), commands=("mail.commands",), jobs=("mail",)),
    Slice("breaker", hooks=("breaker",)),
    Slice("jobs", commands=("jobs.commands",), routes=("jobs",)),
    Slice("batch", routes=("batch",)),
    Slice("sync", routes=("sync",)),
    Slice("cdn", hooks=("cdn",), jobs=("cdn",)),
    Slice("postgres", commands=("postgres.migrate",)),
    Slice("partitions", commands=("partitions.commands",)),
    Slice("shards", commands=("shards.commands",)),
    Slice("retention", jobs=("housekeeping",)),
)


def load(part: Part) -> Iterator[ModuleType]:
    """Import the modules of all slices that are their `part`, in the order of the list."""
    for each in SLICES:
        for name in getattr(each, part):
            yield import_module(f"{_FOLDERS[part]}.{name}")
