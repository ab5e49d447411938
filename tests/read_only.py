"""A database that takes no writes."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers import Direct


@contextmanager
def read_only_database(direct: Direct) -> Iterator[None]:
    """As hosters make one when a disk is full, and a primary is after a failover."""
    with direct.cursor() as cursor:
        cursor.execute("select current_database() as name")
        (found,) = cursor.fetchall()
        cursor.execute(f'alter database "{found["name"]}" set default_transaction_read_only = on')
    try:
        with direct.cursor() as cursor:
            # What is open takes no writes from now on either.
            cursor.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and usename = current_user and pid <> pg_backend_pid()"
            )
        yield
    finally:
        with direct.cursor() as cursor:
            cursor.execute("set transaction_read_only = off")
            cursor.execute(f'alter database "{found["name"]}" reset default_transaction_read_only')
