"""Commits that wait for a synchronous standby: one that was carried out without it is not acknowledged, since a
failover may undo it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2
import pytest
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.servers import Servers, wait_until

_WAITING = "select pid from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()"


Run = Callable[[str], list[tuple[object, ...]]]


@contextmanager
def waiting_for_nobody(servers: Servers) -> Iterator[Run]:
    """While the block runs, commits wait for a standby that is not there. Yields: what runs a statement as the
    superuser."""
    with closing(psycopg2.connect(servers.database_url, user="postgres")) as connection:
        connection.autocommit = True

        def run(sql: str) -> list[tuple[object, ...]]:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []

        def change(words: str, shown: str) -> None:
            run(f"alter system {words}")
            run("select pg_reload_conf()")
            wait_until(lambda: run("show synchronous_standby_names") == [(shown,)], 10, "the server to take it over")

        change("set synchronous_standby_names = 'nobody'", "nobody")
        try:
            yield run
        finally:
            change("reset synchronous_standby_names", "")


@pytest.mark.timeout(60)
def test_what_no_standby_has_confirmed_is_not_acknowledged(servers: Servers, client: FlaskClient, make: Factory):
    """An operator, say, sees that a statement hangs, and cancels it: PostgreSQL then answers that it is committed."""
    user = make.user()
    auth = make.auth(user)
    with ThreadPoolExecutor(1) as pool, waiting_for_nobody(servers) as run:
        asked = pool.submit(lambda: client.patch("/v1/me", json={"name": "Renamed"}, headers=auth))
        wait_until(lambda: run(_WAITING), 20, "the commit")
        run(f"select pg_cancel_backend(pid) from ({_WAITING}) waiting")
        answer = asked.result(30)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json
    assert answer.json["detail"] == "no standby has confirmed yet what was written"
    assert make.value("select name from users where id = %(id)s", {"id": user.id}) == "Renamed"


def test_what_a_trigger_tells_at_a_commit_is_no_warning(servers: Servers, client: FlaskClient, make: Factory):
    auth = make.auth(make.user())
    with closing(psycopg2.connect(servers.database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("""
            create function tells() returns trigger language plpgsql
                as $$ begin raise notice 'seen'; return null; end $$;
            create constraint trigger tells after update on users deferrable initially deferred
                for each row execute function tells()
        """)
        try:
            assert client.patch("/v1/me", json={"name": "Renamed"}, headers=auth).status_code == 200
        finally:
            cursor.execute("drop function tells cascade")
