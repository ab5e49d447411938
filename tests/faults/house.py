"""A whole Dues of its own for tests of faults: PostgreSQL, Valkey, a mail server and the web server, which all may be
killed, and a crew of relays and workers for each fault."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal

import psutil
import psycopg2
import redis
from rq.utils import as_text

from dues.jobs.notifications import CHANNEL
from local.mailsink import MailSink
from local.postgres import Postgres
from local.valkey import Valkey
from tests.factory import Factory
from tests.payments.stripe_stand_in import StripeStandIn
from tests.servers import Backing, Direct, Home, Mailbox, run_migrations, wait_until
from tests.webserver import WebServer
from tests.workers.conftest import Process, Processes

# Can the mail provider be asked what it accepted?
Mode = Literal["asked", "plain"]

# Which processes pass a named line: the relays, or the workers of one of the two supervisors.
Role = Literal["relay", "critical", "default"]

# What a web process does at one of these lines when it is told to (`House.arm_web`).
WEB_LINES = ("payment.after_insert", "web.before_commit", "web.after_commit")

_QUEUES: dict[Role, str] = {"critical": "critical:2", "default": "default:2,bulk:1,slow:1"}
_PATIENCE_S = 60.0
# As outside of tests.
_DRAIN_S = 20.0


class House(Backing):
    """Everything but relays and workers."""

    def __init__(self) -> None:
        self._home = Home()
        self.home = self._home.path
        self.postgres = Postgres(self.home, durable=False)
        self.valkey = Valkey(self.home, durable=False)
        self.mail = MailSink(self.home, faults=True)
        for server in (self.postgres, self.valkey, self.mail):
            server.start()
        self.database_url, self.redis_url = self.postgres.url, self.valkey.url
        run_migrations(self.database_url)
        self.direct = Direct(self.database_url)
        self.make = Factory(self.direct)
        self.mailbox = Mailbox(self.mail)
        self.stripe = StripeStandIn()
        self.web = WebServer(self, threads=8, DUES_FAILPOINTS=self._web_failpoints(), STRIPE_API_URL=self.stripe.url)
        self.web.__enter__()

    def _web_failpoints(self) -> str:
        """Failpoints whose markers are there already: nothing happens until one is taken away."""
        folder = self.home / "web-lines"
        folder.mkdir()
        for line in WEB_LINES:
            (folder / line).touch()
        return ",".join(f"{line}=kill:{folder / line}" for line in WEB_LINES)

    def arm_web(self, line: str) -> Path:
        """Have the next request that comes by `line` kill its process. Returns: the file that says it did."""
        marker = self.home / "web-lines" / line
        marker.unlink()
        return marker

    def replace_web(self) -> None:
        """The web server's main process is killed and another started; what is below it finds out by itself."""
        self.web.process.kill()
        self.web.process.wait()
        self.web.__enter__()

    def stop(self) -> None:
        self.web.__exit__(None, None, None)
        self.stripe.stop()
        self.direct.close()
        for server in (self.mail, self.valkey, self.postgres):
            server.stop()
        wait_until_abandoned(self.home)
        self.postgres.remove()
        self._home.remove()

    def mend(self) -> None:
        """Whatever a fault left behind: everything is up again, awake and well-behaved."""
        for server in (self.postgres, self.valkey, self.mail):
            if not server.is_running:
                server.start()
            for process in family(server.pid):
                process.send_signal(signal.SIGCONT)
        with closing(redis.Redis.from_url(self.redis_url)) as client:
            client.config_set("maxmemory", 0)
        self.mailbox.behave()
        wait_until(self._has_database, _PATIENCE_S, "PostgreSQL to be back")

    def _has_database(self) -> bool:
        with contextlib.suppress(psycopg2.Error):
            return bool(self.make.value("select true"))
        return False

    def terminate_backends(self) -> None:
        """Every connection to PostgreSQL is cut but this one."""
        self.make.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and usename = current_user and pid <> pg_backend_pid()"
        )

    def rows_by_and_by(self, sql: str, parameters: dict[str, object]) -> list[object]:
        """What a statement returns, asked again while PostgreSQL is away."""
        found: list[list[object]] = []

        def ask() -> bool:
            with contextlib.suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
                found.append(list(self.make.rows(sql, parameters)))
            return bool(found)

        wait_until(ask, _PATIENCE_S, "PostgreSQL to answer")
        return found[0]


class Crew:
    """Two relays and two supervisors of workers, with failpoints that strike once each."""

    def __init__(
        self, house: House, folder: Path, mode: Mode, lines: Mapping[Role, Mapping[str, str]], lease_s: int = 2
    ) -> None:
        self._house = house
        self._folder = folder
        self._lines = lines
        self._environ = {
            "JOB_LEASE_S": str(lease_s),
            "SMTP_TIMEOUT_S": "1",
            "GATEWAY_TIMEOUT_S": "10",
            "STRIPE_API_URL": house.stripe.url,
            "DUES_TESTS_OUTPUT": str(folder / "output"),
            **({} if mode == "asked" else {"MAIL_LOOKUP_URL": ""}),
        }
        self._processes = Processes(house)
        self.relays = [self.start("relay") for _ in range(2)]
        self.workers = {role: self.start(role) for role in _QUEUES}

    def start(self, role: Role) -> Process:
        """One more relay or supervisor."""
        environ = {**self._environ, "DUES_FAILPOINTS": self._failpoints(role)}
        if role == "relay":
            return self._processes.start("relay", drain_s=_DRAIN_S, **environ)
        return self._processes.start("workers", drain_s=_DRAIN_S, WORKER_QUEUES=_QUEUES[role], **environ)

    def replace_the_dead(self) -> None:
        """As those who run Dues do. What died is not waited for: its children find out by themselves."""
        self.relays = [relay if relay.is_alive() else self.start("relay") for relay in self.relays]
        for role in _QUEUES:
            if not self.workers[role].is_alive():
                self.workers[role] = self.start(role)

    def _failpoints(self, role: Role) -> str:
        lines = self._lines.get(role, {})
        return ",".join(f"{line}={action}:{self._folder / line}" for line, action in lines.items())

    def wait_until_ready(self) -> None:
        """All relays listen and all workers wait for work."""
        with closing(redis.Redis.from_url(self._house.redis_url)) as client:
            wait_until(lambda: client.pubsub_numsub(CHANNEL)[0][1] >= 2, _PATIENCE_S, "two relays")
            wait_until(lambda: self._serving(client) >= 5, _PATIENCE_S, "five workers")

    def _serving(self, client: redis.Redis) -> int:
        pids = {str(member.pid) for member in self.members()}
        # A worker's name is host.pid.queue.random.
        return sum(as_text(key).rsplit(".", 3)[1] in pids for key in client.smembers("rq:workers"))

    def members(self) -> list[psutil.Process]:
        """Every process of the crew that is alive."""
        mains = [process for process in self._processes.started if process.is_alive()]
        return [member for main in mains for member in family(main.pid)]

    def stopped(self) -> list[psutil.Process]:
        """Those that were sent a SIGSTOP."""
        return [member for member in self.members() if is_stopped(member)]

    def wake_all(self) -> None:
        for member in self.stopped():
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(signal.SIGCONT)

    def end(self) -> None:
        self.wake_all()
        self._processes.end()
        wait_until_abandoned(self._folder)

    def log(self) -> str:
        """What relays and workers have said, a JSON object a line."""
        output = self._folder / "output"
        return output.read_text(errors="replace") if output.exists() else ""


def family(pid: int | None) -> list[psutil.Process]:
    """A process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        return [main, *main.children(recursive=True)]
    return []


def wait_until_abandoned(folder: Path) -> None:
    """Until no process has its output, or its place, in a folder. Raises: AssertionError when one lives on."""
    wait_until(lambda: not _inhabitants(folder), 10, f"the last process of {folder} to end")


def _inhabitants(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            places = [process.cwd(), *(file.path for file in process.open_files())]
            if any(Path(place).is_relative_to(folder) for place in places):
                found.append(process)
    return found


def is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def frozen(pid: int, seconds: float) -> Iterator[None]:
    """A server, with all its processes, stands still for `seconds`; the block runs meanwhile."""
    members = family(pid)
    until = time.monotonic() + seconds
    for member in members:
        member.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(max(until - time.monotonic(), 0))
    finally:
        for member in members:
            member.send_signal(signal.SIGCONT)
