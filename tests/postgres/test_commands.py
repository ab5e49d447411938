"""Commands of `flask` on a bad day: what the servers refuse is one line and status 1, whichever command it is."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import click
import pytest
from flask import Flask

from dues.app import create_base
from dues.ids import new_id
from tests.forks import flask_command
from tests.servers import Servers

NOWHERE = "postgresql://nobody:hunter2@127.0.0.1:1/none"
ID = str(new_id())
# What to type after each command that asks PostgreSQL.
ASKING: dict[str, list[str]] = {
    "audit": [],
    "cache clear": [],
    "gateways rotate": [],
    "jobs cancel": [ID],
    "jobs list": [],
    "jobs retry": [ID],
    "jobs show": [ID],
    "jobs stats": [],
    "mail held": [],
    "mail resend": [ID],
    "mail sent": [ID],
    "migrate": [],
    "partitions apply": ["jobs"],
    "partitions plan": [],
    "shards distribute": [],
    "shards plan": [],
    "stores move": [ID, "--to", "true"],
    "stores moved": [],
}
# It takes the place of the process: test_a_queue_that_cannot_be_drained.
_ELSEWHERE = {"jobs drain"}
# The first asks nobody; the second waits for what a Dues tells it: tests/moves. Those of cells refuse to be asked where
# there are none.
_ASKING_NOBODY = {"gateways new-key", "stores receive", "cells key", "cells list"}


@pytest.fixture(scope="module")
def without_database(servers: Servers) -> Flask:
    return create_base(servers.settings(database_url=NOWHERE))


@pytest.fixture(scope="module")
def before_migrations(servers: Servers) -> Flask:
    """On the database that every server has, which is empty."""
    url = urlsplit(servers.database_url)._replace(path="/postgres").geturl()
    return create_base(servers.settings(database_url=url))


def leaves(command: click.Command, above: str = "") -> Iterator[str]:
    """The names of all commands below this one."""
    if not isinstance(command, click.Group):
        yield above.strip()
        return
    for name in command.list_commands(click.Context(command)):
        if found := command.get_command(click.Context(command), name):
            yield from leaves(found, f"{above} {name}")


def test_every_command_is_here(without_database: Flask):
    assert set(leaves(without_database.cli)) == ASKING.keys() | _ELSEWHERE | _ASKING_NOBODY


@pytest.mark.parametrize("name", ASKING)
def test_without_a_database(name: str, without_database: Flask):
    done = without_database.test_cli_runner().invoke(args=[*name.split(), *ASKING[name]])
    said = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (1, "")
    assert [line for line in said if not line.startswith("{")] == said[-1:], done.stderr
    assert "the database is not available" in said[-1] or "the cache is off" in said[-1]
    assert "hunter2" not in done.output


@pytest.mark.parametrize("name", ["audit", "jobs stats", "mail held", "stores moved"])
def test_before_the_migrations(name: str, before_migrations: Flask):
    done = before_migrations.test_cli_runner().invoke(args=name.split())
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("Error: the database is without any migration, and this release needs ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("jobs list --limit 0", "0 is not in the range"),
        ("jobs list --limit " + "9" * 30, "is not in the range"),
        ("jobs list --queue nowhere", "'nowhere' is not one of"),
        ("jobs show x", "'x' is not a valid UUID"),
        ("mail sent x", "'x' is not a valid UUID"),
        ("mail resend x", "'x' is not a valid UUID"),
        ("stores move ID --to true --wait -1", "-1 is not in the range"),
        ("stores move ID --to true --wait nan", "'nan' is not a valid integer"),
        ("stores move x --to true", "'x' is not a valid UUID"),
        ("partitions apply stores", "'stores' is not one of"),
        ("audit everything", "unexpected extra argument"),
    ],
)
def test_what_was_typed_wrong(arguments: str, words: str, without_database: Flask):
    done = without_database.test_cli_runner().invoke(args=arguments.replace("ID", ID).split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


def test_a_bug_keeps_its_traceback(app: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.jobs.commands.queue_stats", lambda: 1 // 0)
    assert isinstance(app.test_cli_runner().invoke(args=["jobs", "stats"]).exception, ZeroDivisionError)


def test_a_queue_that_cannot_be_drained(servers: Servers):
    done = flask_command("jobs", "drain", "slow", environ=servers.environ(DATABASE_URL=NOWHERE))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("slow is not drained: the database is not available: ")
    assert "Traceback" not in done.stderr


def test_a_program_names_each_setting_that_is_wrong(servers: Servers):
    done = flask_command("--help", environ=servers.environ(PORT="eighty", REDIS_URL=""))
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["REDIS_URL", "PORT"]


def test_a_database_that_is_ahead_is_said_to_be(app: Flask, make):
    known = make.value("select version_num from alembic_version")
    make.rows("update alembic_version set version_num = '9999'")
    try:
        done = app.test_cli_runner().invoke(args=["migrate"])
    finally:
        make.rows("update alembic_version set version_num = %(known)s", {"known": known})
    assert done.exit_code == 0, done.output
    assert done.output.startswith("database is at migration 9999, which a newer release has applied")
    assert done.output.endswith(f"up to {known}\n")
