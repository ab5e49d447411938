"""How every connection to PostgreSQL is opened: where to, how long that may take, how soon a silent network is noticed,
and with which settings of the session.

The settings go along as the connection starts. A proxy that pools transactions drops them, or refuses the connection:
with `DB_PREPARE=false` they are not sent, and belong to the role instead, where `flask migrate` writes them. Either way
they are looked at again (`check()`, and /readyz): what is read and written would be wrong without them.
"""

import socket
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from config import Settings


def _literal(value: UUID) -> psycopg2.extensions.AsIs:
    """An id in a statement. What psycopg2 has for one takes three times as long, and a write holds fifteen."""
    return psycopg2.extensions.AsIs(f"'{value.int:032x}'::uuid")


def register_ids() -> None:
    """Have psycopg2 read ids, and write them as above. To be said again of each connection that SQLAlchemy opens,
    which has them written in psycopg2's own way from then on."""
    psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]
    psycopg2.extensions.register_adapter(UUID, _literal)


register_ids()

# A host, a port and an address of that host, as libpq takes them.
Address = dict[str, str]

# All that SQLAlchemy is told of a database: see `opener()`.
DIALECT = "postgresql+psycopg2://"
CONNECT_S = 5
# The oldest major version of PostgreSQL that migrations and tests run on (`bin/test --postgres`).
OLDEST = 14
_WHAT_TO_DO = (
    "a proxy between here and PostgreSQL drops the settings of sessions. Set DB_PREPARE=false, have"
    " `flask --app wsgi migrate` write them for the role, and have the proxy reconnect"
)
_IDLE_IN_TRANSACTION_MS = 60_000


class WrongSession(psycopg2.OperationalError):
    """The sessions of this database are not as Dues needs them; the message says what to do."""


def session_settings(config: Settings) -> dict[str, str]:
    """What holds in every session, by the names and in the units of PostgreSQL. They run in UTC, bounded in time, and
    without the JIT, which costs short statements more than it saves. What is prepared is planned once: left to choose,
    PostgreSQL plans a long statement each time for a plan that it believes to be a little cheaper, which takes it five
    times as long as carrying out the statement. docs/decisions/0015-no-sequential-scans.md has the reason for the last.
    """
    return {
        "TimeZone": "UTC",
        # Whatever the role, the database or the server has been set to.
        "default_transaction_isolation": "read committed",
        "default_transaction_deferrable": "off",
        "statement_timeout": str(int(config.db_statement_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": str(_IDLE_IN_TRANSACTION_MS),
        "jit": "off",
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
    }


def connect_args(config: Settings, name: str = "dues", timeout_s: float = CONNECT_S, **settings: str) -> dict[str, Any]:
    """What `psycopg2.connect()` is called with beside the URL. `name` is shown in pg_stat_activity; `settings` of the
    session take the place of those above.

    A network that has gone silent is noticed by the kernel: what was sent and not acknowledged, or a peer that does not
    answer its keep-alives, ends the connection after `DB_NETWORK_TIMEOUT_S`, whoever waits for it.
    """
    silence_s = config.db_network_timeout_s
    args: dict[str, Any] = {
        "application_name": name,
        "client_encoding": "UTF8",
        # libpq takes no less than two.
        "connect_timeout": max(2, int(timeout_s)),
        "tcp_user_timeout": int(silence_s * 1000),
        "keepalives_idle": max(1, int(silence_s / 2)),
        "keepalives_interval": max(1, int(silence_s / 4)),
        "keepalives_count": 2,
    }
    if config.db_prepare:
        found = {**session_settings(config), **settings}
        words = [f"{setting}={value}".replace(" ", "\\ ") for setting, value in found.items()]
        args["options"] = " ".join(f"-c {word}" for word in words)
    return args


def check_server(driver: Any) -> None:
    """Raises: WrongSession where PostgreSQL is older than Dues can use, or the database cannot hold every letter."""
    if driver.server_version < OLDEST * 10_000:
        found = driver.get_parameter_status("server_version")
        raise WrongSession(f"PostgreSQL {found} is too old: Dues needs {OLDEST} or newer")
    encoding = driver.get_parameter_status("server_encoding")
    if encoding != "UTF8":
        raise WrongSession(
            f"the database's encoding is {encoding}: Dues needs UTF8 (create database … encoding 'UTF8')"
        )


def check(driver: Any, *, is_primary: bool) -> None:
    """Close a fresh connection to a PostgreSQL that Dues cannot use, or whose session has other settings than it was
    opened with; or to a standby where `is_primary` is wanted. Raises: WrongSession.

    Looked at is what answers would be wrong without, and what the server tells without being asked; /readyz has the
    rest.
    """
    try:
        check_server(driver)
        zone = driver.get_parameter_status("TimeZone")
        if zone != "UTC":
            raise WrongSession(f"sessions of the database are in the time zone {zone}: {_WHAT_TO_DO}")
        if is_primary and driver.get_parameter_status("in_hot_standby") == "on":
            # What a proxy, a name or a floating address leads to while PostgreSQL fails over. It may not show yet what
            # was acknowledged a moment ago.
            raise WrongSession("the database is a standby")
    except WrongSession:
        driver.close()
        raise


def wants_primary(config: Settings) -> bool:
    """Whether `check()` can see that a connection by DATABASE_URL leads to a standby. A proxy that pools transactions
    says of a server what was so when the proxy first met it."""
    return config.db_prepare


def driver_url(config: Settings) -> str:
    """The database's URL as psycopg2 itself takes it."""
    return config.database_url.replace("postgresql+psycopg2:", "postgresql:", 1)


def _places(url: str) -> list[tuple[str, str]]:
    """The hosts of a URL with their ports, as libpq pairs them; none where it gives their addresses, too."""
    parts = psycopg2.extensions.parse_dsn(url)
    hosts, ports = parts.get("host", "").split(","), parts.get("port", "").split(",")
    if "hostaddr" in parts or hosts[0] == "":
        return []
    pairs = zip(hosts, ports if len(ports) == len(hosts) else ports * len(hosts), strict=True)
    return [(host, port or "5432") for host, port in pairs]


def addresses_of(url: str) -> list[Address]:
    """Every address that a URL of `driver_url()` may mean, to be tried one after the other: what libpq does by itself,
    except on an event loop, where it waits for the first without end. Raises: OSError where a name is not known."""
    found: list[Address] = []
    for host, port in _places(url):
        address = {"host": host, "port": port}
        if host.startswith(("/", "@")):
            found.append(address)
        else:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found += [address | {"hostaddr": str(info[4][0])} for info in infos]
    return found or [{}]


class Hosts:
    """The hosts of a URL in the order in which psycopg2 is to try them: first the one that answered last, and last the
    one that a connection was lost to. libpq itself begins with the first of the URL each time, and waits in vain for a
    machine that has gone silent.

    One per process and URL, of threads that need not agree.
    """

    def __init__(self, url: str) -> None:
        self._hosts = _places(url)

    def arguments(self) -> Address:
        """What `psycopg2.connect()` is called with beside the URL; nothing where there is no choice."""
        if len(self._hosts) < 2:
            return {}
        hosts, ports = zip(*self._hosts, strict=True)
        return {"host": ",".join(hosts), "port": ",".join(ports)}

    def rank(self, address: Address) -> int:
        """The place of an address of `addresses_of()` in that order."""
        place = address.get("host", ""), address.get("port", "")
        return self._hosts.index(place) if place in self._hosts else 0

    def answered(self, driver: Any) -> None:
        """A connection was opened, and may be used."""
        self._move(driver, 0)

    def lost(self, driver: Any) -> None:
        """An open connection is of no more use."""
        self._move(driver, len(self._hosts))

    def _move(self, driver: Any, place: int) -> None:
        found = driver.info.host, str(driver.info.port)
        if found in self._hosts:
            hosts = [host for host in self._hosts if host != found]
            hosts.insert(place, found)
            self._hosts = hosts


hosts_of = cache(Hosts)


def opener(config: Settings, name: str = "dues", timeout_s: float = CONNECT_S, **settings: str) -> Callable[[], Any]:
    """What opens a connection, for SQLAlchemy as well, which would read the URL otherwise than libpq does: of one that
    names several hosts and ports it makes nothing."""
    url, arguments = driver_url(config), connect_args(config, name, timeout_s, **settings)
    hosts = hosts_of(url)
    return lambda: psycopg2.connect(url, **(arguments | hosts.arguments()))


def connect(config: Settings, name: str = "dues", timeout_s: float = CONNECT_S, **settings: str) -> Any:
    """A connection apart from the pool, in autocommit mode, to be closed by the caller.

    Raises: psycopg2.Error; of those, WrongSession with what to do.
    """
    try:
        connection = opener(config, name, timeout_s, **settings)()
    except psycopg2.OperationalError as error:
        if "unsupported startup parameter" in str(error):
            raise WrongSession(f"sessions of the database cannot be set up: {_WHAT_TO_DO}") from error
        raise
    check(connection, is_primary=wants_primary(config))
    hosts_of(driver_url(config)).answered(connection)
    connection.autocommit = True
    return connection


def wrong_settings(config: Settings, connection: Any, **settings: str) -> list[str]:
    """The settings of a session that was opened by `connect()` with `settings` which are not as they should be, each
    as a sentence. Raises: psycopg2.Error."""
    expected = session_settings(config) | (settings if config.db_prepare else {})
    with connection.cursor() as cursor:
        cursor.execute("select name, setting from pg_settings where name = any(%s)", (list(expected),))
        found = dict(cursor.fetchall())
    return [f"{name} is {found[name]} and not {value}" for name, value in expected.items() if found[name] != value]


def is_read_only(connection: Any) -> bool:
    """Whether the server takes no writes: a standby, or one that was set so, as hosters do when its disk is full."""
    with connection.cursor() as cursor:
        cursor.execute("show transaction_read_only")
        return bool(cursor.fetchone()[0] == "on")
