"""Standbys answer reads in the primary's place, and never older: one that follows, stands still, is cut off, takes
writes, belongs to another cluster, or was left behind by a failover."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from types import SimpleNamespace as Made
from uuid import UUID

import psycopg2
import pytest
from flask import Flask

from api.app import create_app
from api.server.replicas import Replicas
from dues.clock import now, rfc3339
from dues.ids import new_id
from dues.observability.metrics import REPLICA_READS
from dues.postgres import db
from dues.reads.freshness import fresh_cache, restore_cache_once
from dues.reads.freshness.marks import make_mark
from local.postgres import Postgres
from local.standby import standby_of, value
from tests.api.server.loop_server import LoopServer
from tests.factory import Factory
from tests.postgres.test_failover import House, superuser
from tests.servers import Backing, Direct, Home, Servers, run_migrations, running, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_hundreds = count(1)
RESULTS = ("answered", "behind", "refused", "nothing", "failed")


def counts() -> dict[str, float]:
    return {result: REPLICA_READS.labels(result)._value.get() for result in RESULTS}


def risen(before: dict[str, float]) -> dict[str, float]:
    return {result: value - before[result] for result, value in counts().items() if value > before[result]}


class Cluster(Backing):
    """What the servers stand on, with the PostgreSQL of these tests."""

    def __init__(self, servers: Servers, url: str) -> None:
        self.home, self.redis_url, self.mail, self.database_url = servers.home, servers.redis_url, servers.mail, url


@dataclass
class Club:
    """A store whose packages are read through a server that has replicas."""

    app: Flask
    server: LoopServer
    make: Factory
    store: Made
    auth: dict[str, str]
    backing: Backing
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.store.id}/packages"

    @property
    def replicas(self) -> Replicas:
        found = self.server.application._reads._replicas
        assert found
        return found

    def mark(self) -> None:
        """What the relay does, as often as it may."""
        with self.app.app_context():
            wait_until(make_mark, 10, "a mark")

    def look(self) -> None:
        """What the server does, four times a second."""
        self.server.run(self.replicas.look)

    def read(self) -> tuple[list[str], dict[str, float]]:
        """The names of the packages, asked for as nobody did before; and what was counted of replicas."""
        number = next(self._numbers)
        before = counts()
        # Digits of a number as the order of fields: other words for the same.
        shown = ("id", "name", "amount", "interval", "trial_days", "created_at", "version")
        order = [shown[(place * 3 + number) % 7] for place in range(7)] if number % 2 else list(shown)
        path = f"{self.path}?per_page={100 - number % 50}&fields={','.join(order)}&sort=-created_at"
        status, _, body = self.server.ask("GET", path, self.auth)
        assert status == 200, body
        return [row["name"] for row in json.loads(body)["data"]], risen(before)

    def rename(self, name: str) -> None:
        package = json.loads(self.server.ask("GET", self.path, self.auth)[2])["data"][0]
        headers = self.auth | {"Content-Type": "application/json"}
        path, body = f"{self.path}/{package['id']}", json.dumps({"name": name}).encode()
        status, _, answer = self.server.ask("PATCH", path, headers, body)
        assert status == 200, answer

    def is_answered_by_a_replica(self, names: list[str]) -> None:
        """Soon, and until then the same by the primary."""

        def is_answered() -> bool:
            found, counted = self.read()
            assert found == names
            return counted == {"answered": 1}

        self.mark()
        wait_until(is_answered, 20, "an answer of a replica")


@pytest.fixture
def open_club() -> Iterator[Callable[..., Club]]:
    """`open_club(backing, primary_url, *replica_urls)`, at a server of its own, with further settings."""
    with ExitStack() as stack:

        def begin(backing: Backing, primary_url: str, *replica_urls: str, **settings: str) -> Club:
            app = create_app(backing.settings(database_replica_urls=" ".join(replica_urls), **settings))
            stack.callback(_dispose, app)
            direct = Direct(primary_url, backing.forget)
            stack.callback(direct.close)
            make = Factory(direct)
            # The database is that of the tests before.
            make._numbers = count(next(_hundreds) * 100)
            owner = make.user()
            store = make.store(owner)
            make.package(store, name="Gold")
            server = stack.enter_context(LoopServer(app))
            club = Club(app, server, make, store, make.auth(owner), backing)
            club.server.ask("GET", club.path, club.auth)
            return club

        yield begin


def _dispose(app: Flask) -> None:
    with app.app_context():
        fresh_cache().stop()
        db.engine.dispose()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    yield from _pair()


@pytest.fixture
def own_pair() -> Iterator[tuple[Postgres, Postgres]]:
    yield from _pair()


def _pair() -> Iterator[tuple[Postgres, Postgres]]:
    homes = Home(), Home()
    primary = Postgres(homes[0].path, durable=False)
    with ExitStack() as stack:
        for home in homes:
            stack.callback(home.remove)
        stack.callback(primary.remove)
        stack.enter_context(running(primary))
        run_migrations(primary.url)
        standby = standby_of(primary, homes[1].path)
        stack.callback(shutil.rmtree, homes[1].path / "postgres", ignore_errors=True)
        stack.enter_context(running(standby))
        yield primary, standby


def test_a_standby_answers_what_is_at_rest_and_the_primary_what_was_just_written(
    servers: Servers, clean: None, pair: tuple[Postgres, Postgres], open_club: Callable[..., Club]
):
    primary, standby = pair
    club = open_club(Cluster(servers, primary.url), primary.url, standby.url)
    club.is_answered_by_a_replica(["Gold"])

    value(standby, "select pg_wal_replay_pause()")
    wait_until(lambda: value(standby, "select pg_get_wal_replay_pause_state()") == "paused", 10, "the pause")
    club.rename("Silver")
    for _ in range(3):
        club.mark()
        club.look()
        names, counted = club.read()
        assert (names, counted) == (["Silver"], {"behind": 1})

    value(standby, "select pg_wal_replay_resume()")
    club.is_answered_by_a_replica(["Silver"])

    # What is cut off amid its work is done by the primary, and tried again a little later.
    with superuser(standby) as cursor:
        cursor.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'dues'")
    assert club.read()[0] == ["Silver"]
    club.is_answered_by_a_replica(["Silver"])

    # A row that is not there is the primary's to miss.
    club.mark()
    status, _, _ = club.server.ask("GET", f"{club.path}/{club.store.id}", club.auth)
    assert status == 404


def test_a_directory_of_cells_asks_a_standby_who_is_calling(
    servers: Servers, clean: None, pair: tuple[Postgres, Postgres], open_club: Callable[..., Club]
):
    """However far it is behind, a token that was revoked or has expired opens nothing in a cell."""
    primary, standby = pair
    cells = {"cells": "a=http://127.0.0.1:1", "cells_key": "k" * 32}
    club = open_club(Cluster(servers, primary.url), primary.url, standby.url, **cells)

    def question(auth: dict[str, str], store_id: UUID) -> tuple[int, dict[str, float]]:
        fields = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": f"/v1/stores/{store_id}"}
        before = counts()
        status, _, _ = club.server.ask("GET", "/cells/question", fields | auth)
        return status, risen(before)

    def is_asked_of_a_standby(auth: dict[str, str]) -> bool:
        """About a store that nobody has asked about."""
        status, counted = question(auth, new_id())
        assert status == 200
        return counted == {"answered": 1}

    user = club.make.user()
    revoked, expiring = club.make.auth(user), club.make.auth(user, expires_in=timedelta(seconds=5))
    expired_at = time.monotonic() + 5
    club.server.ask("GET", club.path, club.auth)
    club.mark()
    wait_until(lambda: is_asked_of_a_standby(revoked) and is_asked_of_a_standby(expiring), 20, "an answer of a standby")

    value(standby, "select pg_wal_replay_pause()")
    wait_until(lambda: value(standby, "select pg_get_wal_replay_pause_state()") == "paused", 10, "the pause")
    club.look()
    mine = json.loads(club.server.ask("GET", "/v1/tokens", revoked)[2])["data"]
    ids = [token["id"] for token in mine if token["expires_at"] > rfc3339(now() + timedelta(minutes=1))]
    assert len(ids) == 1
    assert club.server.ask("DELETE", f"/v1/tokens/{ids[0]}", revoked)[0] == 204
    for _ in range(3):
        assert question(revoked, new_id())[0] == 401
        club.mark()
        club.look()
    value(standby, "select pg_wal_replay_resume()")
    time.sleep(max(0.0, expired_at - time.monotonic()))
    club.mark()
    wait_until(lambda: is_asked_of_a_standby(club.auth), 20, "an answer of a standby")
    for auth in (revoked, expiring):
        status, counted = question(auth, new_id())
        # That it is refused is the primary's to say.
        assert (status, "answered" in counted) == (401, False)


def test_what_is_no_standby_of_this_primary_is_not_asked(
    servers: Servers,
    clean: None,
    pair: tuple[Postgres, Postgres],
    open_club: Callable[..., Club],
    caplog: pytest.LogCaptureFixture,
):
    """The primary itself, another cluster, and nobody at all."""
    primary, _ = pair
    nobody = "postgresql://dues@127.0.0.1:1/dues"
    with caplog.at_level(logging.WARNING, "dues.replicas"):
        club = open_club(Cluster(servers, primary.url), primary.url, primary.url, servers.database_url, nobody)
        for _ in range(3):
            club.mark()
            club.look()
            assert club.read() == (["Gold"], {"behind": 1})
    said = [record.getMessage() for record in caplog.records if record.name == "dues.replicas"]
    assert any("is no standby" in line for line in said)
    # With what the system says of it, by which somebody can mend it.
    assert any("127.0.0.1:1 does not answer (" in line and "refused" in line for line in said)
    assert not any("is read from" in line and "not" not in line for line in said)


def test_a_standby_that_was_promoted_is_asked_no_more(
    servers: Servers, clean: None, pair: tuple[Postgres, Postgres], open_club: Callable[..., Club]
):
    """The last of the tests with this pair."""
    primary, standby = pair
    club = open_club(Cluster(servers, primary.url), primary.url, standby.url)
    club.is_answered_by_a_replica(["Gold"])
    assert value(standby, "select pg_promote()")
    # Somebody tries something with it; the primary lives on.
    with closing(psycopg2.connect(standby.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("update packages set name = 'Tin' where store_id = %s", (club.store.id,))
    for _ in range(5):
        names, counted = club.read()
        assert names == ["Gold"]
        assert "answered" not in counted
        club.mark()
        club.look()


def test_a_standby_that_a_failover_left_behind_shows_nothing_that_was_lost(
    servers: Servers, clean: None, own_pair: tuple[Postgres, Postgres], open_club: Callable[..., Club]
):
    """One standby is promoted without the last transactions; another has them, and goes on as a standby."""
    primary, standby = own_pair
    with ExitStack() as stack:
        home = Home()
        stack.callback(home.remove)
        behind = standby_of(primary, home.path)
        stack.callback(shutil.rmtree, home.path / "postgres", ignore_errors=True)
        stack.enter_context(running(behind))
        club = open_club(House(servers, primary, standby), primary.url, behind.url)
        club.is_answered_by_a_replica(["Gold"])

        at = value(primary, "select pg_current_wal_lsn()::text")
        wait_until(lambda: value(standby, f"select pg_last_wal_replay_lsn() >= '{at}'"), 20, "the standby")
        with superuser(standby) as cursor:
            cursor.execute("alter system set primary_conninfo = ''")
            cursor.execute("select pg_reload_conf()")
        wait_until(lambda: not value(standby, "select count(*) from pg_stat_wal_receiver"), 20, "the cut")
        club.rename("Lost")
        club.is_answered_by_a_replica(["Lost"])

        primary.kill()
        assert value(standby, "select pg_promote()")
        assert value(behind, "select pg_is_in_recovery()")
        club.rename("Found")
        with club.app.app_context():
            wait_until(restore_cache_once, 60, "the cache to be on again")
        # Ids grow beyond those that the standby knows.
        for _ in range(20):
            value(standby, "select pg_current_xact_id()::text")
        for _ in range(10):
            club.mark()
            club.look()
            names, counted = club.read()
            assert names == ["Found"]
            assert "answered" not in counted
        # And it would have had an answer.
        with closing(psycopg2.connect(behind.url)) as connection, connection.cursor() as cursor:
            cursor.execute("select name from packages")
            assert cursor.fetchall() == [("Lost",)]
