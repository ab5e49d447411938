"""Where each table lies once the database is spread over several servers. A rule decides, by the keys of a table, so
that a table which a migration adds has its place at once:

- **distributed** by `store_id`, if that column is in the primary key and in every unique key, since Citus keeps a key
  only within one server. All rows of a store are then on one server, whatever their table.
- **reference**, a copy on every server, if a distributed table refers to it, or another reference table does.
- **local**, on the coordinator alone: everything else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

DISTRIBUTION_COLUMN = "store_id"

Place = Literal["distributed", "reference", "local"]


@dataclass(frozen=True)
class Table:
    """keys: the columns of the primary key and of each unique one. targets: the tables that its foreign keys lead to,
    itself left out."""

    name: str
    primary_key: frozenset[str]
    keys: tuple[frozenset[str], ...]
    targets: frozenset[str]


@dataclass(frozen=True)
class Placed:
    place: Place
    reason: str


# Where the rule is wrong: for tables that are asked for together with rows of the coordinator as well as of stores.
# Each is small, or seldom written.
EXCEPTIONS: Mapping[str, Placed] = {
    "store_staff": Placed("reference", "every request asks for it together with tokens, which are the coordinator's"),
    "gateway_accounts": Placed("reference", "every request asks for it together with tokens"),
    "store_moves": Placed("reference", "every request asks for it, and triggers of distributed tables do"),
    "addresses": Placed("reference", "documents of stores show the addresses of their customers"),
    "webhook_deliveries": Placed("local", "claimed and put off together with their jobs"),
    "webhook_endpoints": Placed("local", "asked for together with deliveries and with circuit breakers"),
    "payment_methods": Placed("reference", "charges and documents of stores read the payer's methods"),
}


def placements(tables: Iterable[Table]) -> dict[str, Placed]:
    """The place of each table, by name, and why."""
    by_name = {table.name: table for table in tables}
    placed: dict[str, Placed] = {name: EXCEPTIONS[name] for name in EXCEPTIONS if name in by_name}
    for table in by_name.values():
        if table.name not in placed and DISTRIBUTION_COLUMN in frozenset.intersection(table.primary_key, *table.keys):
            placed[table.name] = Placed("distributed", f"{DISTRIBUTION_COLUMN} is in all of its keys")
    to_do = list(placed)
    while to_do:
        name = to_do.pop()
        for target in sorted(by_name[name].targets - placed.keys()):
            placed[target] = Placed("reference", f"{name} refers to it")
            to_do.append(target)
    for name in by_name.keys() - placed.keys():
        placed[name] = Placed("local", "nothing that is distributed refers to it")
    return dict(sorted(placed.items()))


def targets_first(tables: Iterable[Table]) -> list[Table]:
    """In an order in which each table comes after those that it refers to. Raises: graphlib.CycleError."""
    by_name = {table.name: table for table in tables}
    graph = {name: sorted(table.targets & by_name.keys()) for name, table in sorted(by_name.items())}
    return [by_name[name] for name in TopologicalSorter(graph).static_order()]
