"""Commits that wait for a synchronous standby: one that was carried out without it is not acknowledged, since a
failover may undo it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2
import pytest
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.rows.people import PASSWORD
from tests.servers import Servers, wait_until

PAYMENT = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}
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
@pytest.mark.parametrize("what", ["a payment", "a log-in"])
def test_what_no_standby_has_confirmed_is_not_acknowledged(
    servers: Servers, client: FlaskClient, make: Factory, what: str
):
    """An operator, say, sees that a statement hangs, and cancels it: PostgreSQL then answers that it is committed, and
    shows it to everybody, to the second try with the same key as well."""
    user = make.user()
    headers = {"Idempotency-Key": "a-key"}
    if what == "a payment":
        path, body = f"/v1/stores/{make.store().id}/payments", PAYMENT
        headers |= make.auth(user)
    else:
        # Whose second try locks no row of its own.
        path, body = "/v1/tokens", {"email": user.email, "password": PASSWORD}
    table = {"a payment": "payments", "a log-in": "api_tokens"}[what]
    before = make.value(f"select count(*) from {table}")
    with ThreadPoolExecutor(1) as pool, waiting_for_nobody(servers) as run:
        for _ in range(2):
            asked = pool.submit(lambda: client.post(path, json=body, headers=headers))
            wait_until(lambda: run(_WAITING), 20, "the commit")
            run(f"select pg_cancel_backend(pid) from ({_WAITING}) waiting")
            answer = asked.result(30)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.json
            assert answer.json["detail"] == "no standby has confirmed yet what was written"
    kept = client.post(path, json=body, headers=headers)
    assert kept.headers["Idempotency-Replayed"] == "true"
    assert make.value(f"select count(*) from {table}") == before + 1
