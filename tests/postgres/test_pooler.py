"""Behind a proxy that pools transactions: sessions are set up by the role, and who forgets that is told what to do."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import make_url

from api.app import create_app
from config import Settings
from dues.postgres import db, fetch_row
from local.ports import free_port
from tests.factory import Factory
from tests.reads.freshness.conftest import connect
from tests.servers import Servers, create_database, drop_database, wait_until
from tests.silence import Network

SETTINGS = "select current_setting('TimeZone'), current_setting('statement_timeout'), current_setting('enable_seqscan')"


@pytest.fixture
def database(servers: Servers) -> Iterator[str]:
    """The URL of a migrated database whose sessions are in another time zone than UTC."""
    url = make_url(servers.database_url)
    name = f"{url.database}_pooled"
    create_database(servers.database_url, name, make_url(os.environ["DUES_TESTS_TEMPLATE"]).database or "")
    with closing(connect(servers)) as connection, connection.cursor() as cursor:
        cursor.execute(f"alter database \"{name}\" set timezone = 'Asia/Tokyo'")
        connection.commit()
    yield url.set(database=name).render_as_string(hide_password=False)
    drop_database(servers.database_url, name)


@contextmanager
def dues(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings)
    yield app
    with app.app_context():
        db.engine.dispose()


def detail(app: Flask) -> tuple[int, str]:
    answer = app.test_client().get("/readyz")
    assert answer.json
    return answer.status_code, answer.json.get("detail", "")


def test_sessions_that_are_not_set_up_are_refused_until_they_are(servers: Servers, database: str) -> None:
    with dues(servers.settings(database_url=database, db_prepare=False)) as app:
        status, said = detail(app)
        assert status == 503
        assert "the time zone Asia/Tokyo" in said
        assert "`flask --app wsgi migrate`" in said
        with app.app_context(), pytest.raises(psycopg2.OperationalError, match="Asia/Tokyo"):
            fetch_row("select 1", {})
        assert app.test_cli_runner().invoke(args=["migrate"]).exit_code == 0
        assert detail(app) == (200, "")
        with app.app_context():
            assert fetch_row(SETTINGS, {}) == ("UTC", "15s", "off")


def test_settings_that_a_proxy_has_dropped_are_named(servers: Servers, database: str, make: Factory) -> None:
    """Where the server's own time zone is UTC, nothing else would tell."""
    name = make_url(database).database
    make.rows(f"alter database \"{name}\" set timezone = 'UTC'")
    with dues(servers.settings(database_url=database, db_prepare=False)) as app:
        status, said = detail(app)
    assert status == 503
    assert "statement_timeout is 0 and not 15000" in said
    assert "enable_seqscan is on and not off" in said


def test_with_prepared_statements_sessions_are_set_up_as_they_start(servers: Servers, database: str) -> None:
    with dues(servers.settings(database_url=database)) as app:
        assert detail(app) == (200, "")
        with app.app_context():
            assert fetch_row(SETTINGS, {}) == ("UTC", "15s", "off")


PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def pgbouncer(folder: Path, database: str) -> Iterator[tuple[str, Network]]:
    """The URL of pgbouncer in front of a database, in transaction mode, as it comes otherwise, and the network between
    the two."""
    assert PGBOUNCER
    url, port = make_url(database), free_port()
    with closing(psycopg2.connect(database.replace("+psycopg2", ""))) as connection:
        if not connection.info.host.startswith("/"):
            pytest.skip("PostgreSQL is not reached by a Unix socket here")
        server = f"{connection.info.host}/.s.PGSQL.{connection.info.port}"
    # Its own user is another than the server knows, where that goes by the user at the other end of its socket.
    with Network(server) as network:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 4,
            "admin_users": url.username,
            "user": "nobody",
        }
        target = f"host=127.0.0.1 port={network.port} dbname={url.database} user={url.username}"
        lines = [f"[databases]\n{url.database} = {target}\n[pgbouncer]", *(f"{k} = {v}" for k, v in settings.items())]
        (ini := folder / "pgbouncer.ini").write_text("\n".join(lines))
        folder.chmod(0o755)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([PGBOUNCER, str(ini)], stdout=log, stderr=log)
        try:
            yield url.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False), network
        finally:
            process.terminate()
            process.wait()


def reconnect(database: str) -> None:
    """As an operator has pgbouncer do."""
    admin = make_url(database).set(drivername="postgresql", database="pgbouncer")
    with closing(psycopg2.connect(admin.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        connection.cursor().execute("reconnect")


@pytest.mark.skipif(PGBOUNCER is None, reason="there is no pgbouncer on this machine")
def test_pgbouncer_in_transaction_mode_by_one_setting(servers: Servers, database: str, tmp_path: Path) -> None:
    with pgbouncer(tmp_path, database) as (address, network):
        with dues(servers.settings(database_url=address)) as app:
            wait_until(lambda: "cannot be set up" in detail(app)[1], what="pgbouncer's refusal")
            refused = app.test_cli_runner().invoke(args=["migrate"])
            assert refused.exit_code == 1
            assert "Set DB_PREPARE=false" in refused.output
        with dues(servers.settings(database_url=address, db_prepare=False)) as app:
            assert app.test_cli_runner().invoke(args=["migrate"]).exit_code == 0
            reconnect(address)
            wait_until(lambda: detail(app) == (200, ""), what="new connections of pgbouncer's")
            client = app.test_client()
            account = {"email": "ada@example.com", "name": "Ada", "password": "correct horse battery staple"}
            assert client.post("/v1/users", json=account).status_code == 201
            issued = client.post("/v1/tokens", json={key: account[key] for key in ("email", "password")})
            assert issued.json
            auth = {"Authorization": f"Bearer {issued.json['token']}"}

            def rename(number: int) -> int:
                return app.test_client().patch("/v1/me", json={"name": f"Ada {number}"}, headers=auth).status_code

            with ThreadPoolExecutor(8) as threads:
                assert set(threads.map(rename, range(40))) == {200}
            me = client.get("/v1/me", headers=auth).json
            assert me
            assert me["created_at"].endswith("+00:00")
            # It still takes connections, and passes nothing on.
            network.silent = True
            for path, told in {"/metrics": "dues_database_up 0", "/readyz": '"missing":["database"]'}.items():
                began = time.monotonic()
                assert told in client.get(path).text
                assert time.monotonic() - began < 20
