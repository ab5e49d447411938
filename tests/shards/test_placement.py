"""Where the tables lie once the database is spread over several servers: it is known of every table of the schema, and
a table that a migration adds is placed by rule. None of this needs Citus."""

import pytest

from dues.postgres.changing import Session
from dues.shards import catalog
from dues.shards.distribution import on_coordinator, plan_for
from dues.shards.placement import EXCEPTIONS, Place, Table, placements, targets_first
from tests.shards.conftest import places

# What partitions bring along.
_OF_PARTITIONS = {"jobs_live_keys", "email_sends_keys"}


def table(name: str, keys: str, targets: str = "") -> Table:
    """`keys`: the columns of each key, the primary one first: `store_id,id id`."""
    primary, *others = (frozenset(key.split(",")) for key in keys.split())
    return Table(name, primary, (primary, *others), frozenset(targets.split()))


def test_every_table_has_its_place(session: Session):
    expected = {name: place for place, names in places().items() for name in names}
    found = {name: found.place for name, found in plan_for(session).placed.items()}
    assert found == {**expected, **dict.fromkeys(_OF_PARTITIONS & found.keys(), "local")}
    assert EXCEPTIONS.keys() <= expected.keys(), "an exception for a table that is gone"


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ([table("orders", "store_id,id")], "distributed"),
        ([table("orders", "store_id,id store_id,number")], "distributed"),
        ([table("orders", "id")], "local"),
        ([table("orders", "store_id,id id")], "local"),
        ([table("lines", "store_id,id", "orders"), table("orders", "id")], "reference"),
        ([table("lines", "store_id,id", "pages"), table("pages", "id", "orders"), table("orders", "id")], "reference"),
        ([table("lines", "id", "orders"), table("orders", "id")], "local"),
        ([table("store_staff", "store_id,user_id", "orders"), table("orders", "id")], "reference"),
    ],
)
def test_keys_decide(tables: list[Table], expected: Place):
    assert placements(tables)["orders"].place == expected


def test_nothing_local_is_referred_to_from_a_shard(session: Session):
    placed = plan_for(session).placed
    for key in catalog.foreign_keys(session):
        if key.table in placed and placed[key.table].place != "local":
            assert placed[key.target].place != "local", key


def test_what_is_referred_to_comes_first():
    tables = [table("c", "id", "b a"), table("b", "id", "a"), table("a", "id", "elsewhere")]
    assert [each.name for each in targets_first(tables)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("definition", "limited"),
    [
        (
            "CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
            "CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW WHEN (citus_is_coordinator()) EXECUTE FUNCTION f()",
        ),
        (
            "CREATE TRIGGER t AFTER UPDATE ON a FOR EACH ROW WHEN ((old.x <> new.x)) EXECUTE FUNCTION f()",
            "CREATE TRIGGER t AFTER UPDATE ON a FOR EACH ROW WHEN (citus_is_coordinator() AND (old.x <> new.x))"
            " EXECUTE FUNCTION f()",
        ),
    ],
)
def test_a_trigger_is_limited_to_the_coordinator(definition: str, limited: str):
    assert on_coordinator(definition) == limited


def test_triggers_that_write_elsewhere_are_not_left_as_they_are(session: Session):
    """What notes changes for /v1/sync writes into a table of the coordinator."""
    steps = " ".join(plan_for(session).steps)
    placed = plan_for(session).placed
    for trigger in catalog.triggers(session):
        if trigger.name.endswith("_sync_note"):
            is_dropped = f"drop trigger {trigger.name} on {trigger.table}" in steps
            assert is_dropped == (placed[trigger.table].place != "local")
