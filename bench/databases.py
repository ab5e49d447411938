"""The PostgreSQL servers of the freshness prover: a primary, standbys of which the last one lags behind, and failovers
between them."""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from local.postgres import Postgres
from local.standby import allow_standbys, socket_of, standby_of, value

# How far the last standby lags behind, in seconds.
_LATE_S = 2
_PATIENCE_S = 60.0


class Databases:
    """Each server keeps its folder and address, whichever of them is the primary.

    With `fails_over`, a commit waits until a standby has it, so that no failover loses an acknowledged write.
    """

    def __init__(self, home: Path, standbys: int, *, fails_over: bool) -> None:
        self._homes = [home / f"database-{number}" for number in range(1 + standbys)]
        for each in self._homes:
            each.mkdir(mode=0o711)
        self._servers = [Postgres(self._homes[0], durable=False)]
        self._primary_index = 0
        self._fails_over = fails_over

    @property
    def primary(self) -> Postgres:
        return self._servers[self._primary_index]

    @property
    def standbys(self) -> list[Postgres]:
        return [server for index, server in enumerate(self._servers) if index != self._primary_index]

    @property
    def url(self) -> str:
        """The URL of the server that takes writes."""
        if not self._fails_over:
            return self.primary.url
        hosts = ",".join(map(socket_of, self._servers))
        ports = ",".join(["5432"] * len(self._servers))
        return f"postgresql://dues@/dues?host={hosts}&port={ports}&target_session_attrs=read-write"

    @property
    def replica_urls(self) -> str:
        """The URLs of all servers that are standbys or may become one."""
        return " ".join(server.url for server in (self._servers if self._fails_over else self.standbys))

    def start(self) -> None:
        self.primary.start()

    def follow(self) -> None:
        """Create and start the standbys, as copies of the primary."""
        for home in self._homes[1:]:
            self._servers.append(standby_of(self.primary, home))
            self._servers[-1].start()
        self._arrange()

    def _arrange(self) -> None:
        """Have the standbys follow the primary, the last of them with a delay."""
        allow_standbys(self.primary)
        standbys = self.standbys
        for standby in standbys:
            name = f"database-{self._servers.index(standby)}"
            address = f"host={socket_of(self.primary)} user=postgres application_name={name}"
            value(standby, f"alter system set primary_conninfo = '{address}'")
            value(
                standby, f"alter system set recovery_min_apply_delay = '{_LATE_S if standby is standbys[-1] else 0}s'"
            )
            value(standby, "alter system reset synchronous_standby_names")
            value(standby, "select pg_reload_conf()")

    async def require_standby(self) -> None:
        """Have commits wait for a standby, once a standby has everything that was committed before."""
        if self._fails_over:
            await self._wait_for_followers(bool)
            value(self.primary, "alter system set synchronous_standby_names = 'ANY 1 (*)'")
            allow_standbys(self.primary)

    async def _wait_for_followers(self, are_enough: Callable[[set[int]], bool]) -> None:
        """Wait until `are_enough` accepts the indexes of the standbys that have all that the primary has now. Raises:
        RuntimeError after a minute."""
        at = value(self.primary, "select pg_current_wal_lsn()::text")
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            indexes = self._streaming(at)
            if are_enough(indexes):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"waited {_PATIENCE_S:g} s for standbys in vain: {indexes or 'none'} follow the primary"
                )
            await asyncio.sleep(0.1)

    def _streaming(self, at: str = "0/0") -> set[int]:
        """The indexes of the standbys that follow the primary and have its log up to `at`."""
        names = value(
            self.primary,
            "select string_agg(application_name, ' ') from pg_stat_replication"
            f" where state = 'streaming' and application_name like 'database-_' and flush_lsn >= '{at}'",
        )
        return {int(name.rpartition("-")[2]) for name in (names or "").split()}

    async def fail_over(self) -> None:
        """Kill the primary, and promote the standby that has received most. The old primary's disk is lost: it is
        copied anew and becomes a standby. A standby that had received more than the new primary cannot follow it, and
        stays behind."""
        await self._wait_for_followers(bool)
        # The standby that has received most has everything that was acknowledged.
        old, following = self._primary_index, self._streaming()
        _kill(self.primary)
        self._primary_index = max(following, key=lambda index: _received(self._servers[index]))
        assert value(self.primary, "select pg_promote()")
        shutil.rmtree(self._homes[old] / "postgres")
        # A server is stopped when the thread that started it ends, so it is started here and not in the other thread.
        self._servers[old] = await asyncio.to_thread(standby_of, self.primary, self._homes[old])
        self._servers[old].start()
        self._arrange()
        await self._wait_for_followers(lambda indexes: old in indexes)
        await self.require_standby()

    def stop(self) -> None:
        for server in self._servers:
            server.stop()
            server.remove()


def _kill(server: Postgres) -> None:
    """Kill the server's processes at once: one that lived on could still send a commit to a standby, or acknowledge
    one."""
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes[1:], timeout=10)
    server.kill()


def _received(standby: Postgres) -> int:
    return int(value(standby, "select coalesce(pg_last_wal_receive_lsn() - '0/0', 0)::bigint"))
