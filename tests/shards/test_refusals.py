"""What `flask shards` needs is said where it is missing, and nothing is done then. None of this needs Citus, which is
asked for what it knows in other tests: `bin/test --citus`."""

from typing import Any

import pytest
from flask import Flask

from dues.postgres.changing import Refused, Session
from dues.shards import catalog
from dues.shards.distribution import plan_for, refuse_unless_ready
from tests.factory import Factory
from tests.shards.conftest import places

# Of what is to be known of Citus, one thing at a time is missing.
READY: dict[str, Any] = {"knows_coordinator": True, "workers": ["one:5432", "two:5432"], "partitioned": []}


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, clean: None) -> pytest.MonkeyPatch:
    """A database without rows that has all that is needed, as far as Citus tells."""
    monkeypatch.setattr(Session, "is_spread", lambda self: True)
    monkeypatch.setattr(catalog, "placed", lambda session: {})
    know(monkeypatch, READY)
    return monkeypatch


def know(monkeypatch: pytest.MonkeyPatch, known: dict[str, Any]) -> None:
    for name, answer in known.items():
        monkeypatch.setattr(catalog, name, lambda session, answer=answer: answer)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"knows_coordinator": False}, "does not know its coordinator"),
        ({"workers": []}, "has no worker"),
        ({"partitioned": ["jobs", "payments"]}, "partitioned by month, .*: jobs, payments"),
    ],
)
def test_what_is_missing_is_said(known: dict[str, Any], message: str, ready: pytest.MonkeyPatch, session: Session):
    refuse_unless_ready(session)
    know(ready, known)
    with pytest.raises(Refused, match=message):
        refuse_unless_ready(session)


def test_a_database_with_rows_is_refused(ready: pytest.MonkeyPatch, session: Session, make: Factory):
    make.store()
    with pytest.raises(Refused, match=r"have rows: .*stores.*users"):
        refuse_unless_ready(session)


def test_tables_that_lie_elsewhere_are_named(ready: pytest.MonkeyPatch, session: Session):
    now = {name: place for place, names in places().items() for name in names}
    know(ready, {"placed": now})
    assert plan_for(session).steps == []
    know(ready, {"placed": {**now, "refunds": "reference", "packages": "local"}})
    with pytest.raises(Refused, match="otherwise than this release would: packages, refunds"):
        plan_for(session)


def test_the_commands_on_a_postgresql_without_citus(app: Flask):
    cli = app.test_cli_runner()
    refused = cli.invoke(args=["shards", "distribute"])
    assert refused.exit_code == 1
    assert "Error: the database has no extension citus" in refused.output
    planned = cli.invoke(args=["shards", "plan"])
    assert planned.exit_code == 0, planned.output
    assert "-- cannot be distributed yet: the database has no extension citus" in planned.output
    assert "select create_distributed_table('payments', 'store_id'" in planned.output
    assert planned.output.rstrip().endswith("commit;")
