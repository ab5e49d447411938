"""A role, a database or a server that was set up for others: Dues' sessions have what they need all the same."""

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

from api.app import create_app
from dues.app import create_base
from dues.postgres import db
from tests.factory import Factory
from tests.servers import Servers, drop_database

# What hosters and other programs set for a role or a database; all at once.
FOR_OTHERS = {
    "TimeZone": "America/St_Johns",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "extra_float_digits": "0",
    "standard_conforming_strings": "off",
    "statement_timeout": "1ms",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
}
NAME = "Zoë Łódź 🎉"


@pytest.fixture
def for_others(servers: Servers, make: Factory) -> Iterator[None]:
    database = make_url(servers.database_url).database
    for setting, value in FOR_OTHERS.items():
        make.rows(f"alter database \"{database}\" set {setting} = '{value}'")
    yield
    make.rows(f'alter database "{database}" reset all')


def test_requests_are_answered_as_ever(for_others: None, servers: Servers):
    app = create_app(servers.settings())
    client = app.test_client()
    made = client.post("/v1/users", json={"email": "z@example.org", "password": "a good one for tests", "name": NAME})
    assert made.status_code == 201, made.text
    assert made.json is not None
    assert made.json["name"] == NAME
    assert client.get("/readyz").json == {"status": "ready"}
    with app.app_context():
        db.engine.dispose()


def test_a_database_that_cannot_hold_every_letter_is_refused(servers: Servers, make: Factory):
    url = make_url(servers.database_url)
    name = f"{url.database}_ascii"
    # Of an older server there is no other provider.
    provider = "locale_provider libc" if make.value("show server_version_num") >= "150000" else ""
    how = f"template template0 {provider} encoding SQL_ASCII lc_collate 'C' lc_ctype 'C'"
    make.rows(f'create database "{name}" {how}')
    try:
        other = url.set(database=name).render_as_string(hide_password=False)
        done = create_base(servers.settings(database_url=other)).test_cli_runner().invoke(args=["migrate"])
    finally:
        drop_database(servers.database_url, name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: the database's encoding is SQL_ASCII: Dues needs UTF8")
