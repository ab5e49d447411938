"""The statements that spread the tables over several servers, all of them in one transaction: a database is distributed
as a whole or not at all.

It is done while the tables are empty. Citus would copy rows, but it keeps the old ones hidden in the coordinator's own
tables, which it then cannot empty because of their foreign keys.

Triggers of distributed tables run where the row lies, and may only read and write rows of the same store there, and
tables of which every server has a copy. Those of reference tables run on every server, once for each copy. So the
triggers that write into tables of the coordinator are dropped from the former, and limited to the coordinator on the
latter.
"""

import re
from dataclasses import dataclass, field

from dues.postgres.changing import Refused, Session
from dues.shards import catalog
from dues.shards.catalog import ForeignKey, Trigger
from dues.shards.placement import DISTRIBUTION_COLUMN, Placed, Table, placements, targets_first

# What these functions write is not where a row of a distributed table is.
_WRITES_ELSEWHERE = re.compile(r"sync_note_\w+|dues_note_customers")
SETTINGS = {
    # Triggers as above. Migrations that make some find it allowed, too.
    "citus.enable_unsafe_triggers": "on",
    # After a statement that went to many shards at once, a transaction could not write a table that others refer to.
    "citus.multi_shard_modify_mode": "sequential",
}


@dataclass(frozen=True)
class Plan:
    """The place of each table, and what is to be done: `steps` in one transaction. None are left where all is done."""

    placed: dict[str, Placed]
    steps: list[str] = field(default_factory=list)


def plan_for(session: Session) -> Plan:
    """Where each table belongs, and what brings it there. Raises: Refused where a table lies elsewhere already."""
    tables = catalog.tables(session)
    placed, now = placements(tables), catalog.placed(session)
    is_done = any(place == "distributed" for place in now.values())
    if not is_done:
        return Plan(placed, _steps(session, tables, placed))
    wrong = [name for name, to_be in placed.items() if to_be.place != now.get(name, "local")]
    if wrong:
        raise Refused(f"distributed otherwise than this release would: {', '.join(wrong)}")
    return Plan(placed)


def refuse_unless_ready(session: Session) -> None:
    """Raises: Refused where a precondition of `distribute()` is not met."""
    if not session.is_spread():
        raise Refused("the database has no extension citus: create it here and on the workers, and add these")
    if not catalog.knows_coordinator(session):
        raise Refused("Citus does not know its coordinator: select citus_set_coordinator_host('…')")
    if not catalog.workers(session):
        raise Refused("Citus has no worker: select citus_add_node('…', 5432)")
    if found := catalog.partitioned(session):
        raise Refused(f"partitioned by month, which cannot be distributed as well: {', '.join(found)}")
    tables = [table.name for table in catalog.tables(session)]
    if found := [name for name in tables if name not in _FILLED_BY_MIGRATIONS and catalog.has_rows(session, name)]:
        raise Refused(f"the tables must be empty, and these have rows: {', '.join(found)}")


# By migrations, or by the relay as it starts.
_FILLED_BY_MIGRATIONS = {"cache_switch", "replica_mark", "relay_looks"}


def distribute(session: Session, plan: Plan) -> None:
    """Raises: psycopg2.Error; nothing has changed then."""
    session.in_turn(plan.steps)


def _steps(session: Session, tables: list[Table], placed: dict[str, Placed]) -> list[str]:
    of_stores = {name for name, found in placed.items() if found.place == "distributed"}
    copied = {name for name, found in placed.items() if found.place == "reference"}
    keys = [key for key in catalog.foreign_keys(session) if key.target in of_stores and key.target != key.table]
    for key in keys:
        if key.table not in of_stores:
            raise Refused(f"{key.table}, which is not distributed, refers to {key.target}, which is: {key.name}")
    order = [table.name for table in targets_first(tables)]
    steps = [f"set local {name} = '{value}'" for name, value in SETTINGS.items()]
    triggers = [trigger for trigger in catalog.triggers(session) if trigger.table in of_stores | copied]
    # A generic plan does not say which store, so Citus cannot tell where to ask.
    functions = sorted({trigger.function for trigger in triggers})
    steps += [f"alter function {name}() set plan_cache_mode = 'force_custom_plan'" for name in functions]
    for trigger in triggers:
        steps += _of_trigger(trigger, of_stores)
    steps += [f"alter table {key.table} drop constraint {key.name}" for key in keys]
    steps += [f"select create_reference_table('{name}')" for name in order if name in copied]
    first = ""
    for name in (name for name in order if name in of_stores):
        steps.append(f"select create_distributed_table('{name}', '{DISTRIBUTION_COLUMN}'{first})")
        first = first or f", colocate_with => '{name}'"
    steps += [_added(key) for key in keys]
    database = session.value("select quote_ident(current_database())")
    steps += [f"alter database {database} set {name} = '{value}'" for name, value in SETTINGS.items()]
    return steps


def _added(key: ForeignKey) -> str:
    return f"alter table {key.table} add constraint {key.name} {key.definition}"


def _of_trigger(trigger: Trigger, of_stores: set[str]) -> list[str]:
    if not _WRITES_ELSEWHERE.fullmatch(trigger.function):
        return []
    dropped = f"drop trigger {trigger.name} on {trigger.table}"
    return [dropped] if trigger.table in of_stores else [dropped, on_coordinator(trigger.definition)]


def on_coordinator(definition: str) -> str:
    """The same trigger, but that it fires on the coordinator alone."""
    if " WHEN (" in definition:
        return definition.replace(" WHEN (", " WHEN (citus_is_coordinator() AND ", 1)
    return definition.replace(" EXECUTE FUNCTION ", " WHEN (citus_is_coordinator()) EXECUTE FUNCTION ", 1)
