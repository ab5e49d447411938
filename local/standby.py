"""A standby of a PostgreSQL of local/postgres.py, for tests and benchmarks."""

import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg2

from local.postgres import Postgres


def socket_of(server: Postgres) -> str:
    """The folder of a server's socket, which libpq accepts as its host."""
    return parse_qs(urlsplit(server.url).query)["host"][0]


def value(server: Postgres, sql: str) -> Any:
    """The first column of a statement's first row, run as the server's superuser; None if there is no row."""
    with closing(psycopg2.connect(server.url_of("postgres"), user="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]


def allow_standbys(primary: Postgres) -> None:
    """Let standbys connect to a running server, which reloads its configuration at once; `prepare()` undoes this."""
    data = Path(value(primary, "show data_directory"))
    with (data / "pg_hba.conf").open("a") as file:
        file.write("local replication all peer map=dues\n")
    with (data / "pg_ident.conf").open("a") as file:
        file.write(f'dues "{data.owner()}" postgres\n')
    value(primary, "select pg_reload_conf()")


def standby_of(primary: Postgres, home: Path) -> Postgres:
    """A copy of the running `primary` below `home`, which will follow it; not started yet."""
    allow_standbys(primary)
    account = Path(value(primary, "show data_directory")).stat()
    (folder := home / "postgres").mkdir(mode=0o711)
    programs = primary.prepare().argv[0]
    words = "-U postgres -R -X stream --checkpoint=fast --no-sync"
    subprocess.run(
        [Path(programs).with_name("pg_basebackup"), "-D", folder / "data", "-h", socket_of(primary), *words.split()],
        check=True,
        capture_output=True,
    )
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, account.st_uid, account.st_gid)
    return Postgres(home, durable=False)
