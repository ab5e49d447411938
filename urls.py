"""How addresses in settings are read: of a PostgreSQL, a Redis, a proxy. Each way of reading one raises ValueError for
what is none, and its message never holds what was read, which may be a secret."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import psycopg2
from psycopg2.extensions import parse_dsn

# What libpq reads only as it connects.
_DSN_WORDS = {
    "sslmode": ("prefer", "disable", "allow", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
# A name, whose letters may be those of any language, or an address.
_HOST = re.compile(r"[^\s,;<>\"'{}|\\^`]+")
_REDIS_SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")


class RedisUrl(NamedTuple):
    """Where a Redis is. path: of its socket, where it is reached by one; host and port are then void."""

    path: str
    host: str
    port: int
    tls: bool
    username: str
    password: str
    db: int


def sqlalchemy_url(url: str) -> str:
    """Name psycopg2 in a PostgreSQL URL: SQLAlchemy takes a bare `postgresql://` for psycopg 3."""
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg2://" + url[len(scheme) :]
    return url


def address(host: str, port: int) -> str:
    """A host and a port as one word. An address of IPv6 is in brackets, which people write or leave out."""
    host = host.removeprefix("[").removesuffix("]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def read_networks(text: str) -> list[IPv4Network | IPv6Network]:
    """The networks and addresses of a list separated by commas, without a `*`. Raises: ValueError."""
    words = [word.strip() for word in text.split(",")]
    return [ip_network(word, strict=False) for word in words if word not in ("", "*")]


def read_dsn(url: str) -> dict[str, str]:
    """What a PostgreSQL URL says, as libpq reads it. Raises: ValueError, which does not hold the URL."""
    if not url.startswith(("postgres://", "postgresql://", "postgresql+psycopg2://")):
        raise ValueError("a PostgreSQL URL begins with postgresql://")
    try:
        found = parse_dsn(url.replace("postgresql+psycopg2:", "postgresql:", 1))
    except psycopg2.ProgrammingError:
        # Whose message may hold the password.
        raise ValueError("this is not the URL of a PostgreSQL database") from None
    # A password ends at the first `@` or `/` that stands in it as it is: what follows would be taken for the host or
    # the database, and named in errors. (The host `@…` is a socket of Linux without a file.)
    if any("@" in found.get(name, "")[1:] for name in ("host", "dbname")):
        raise ValueError("the user or the password is not percent-encoded")
    if not all(_is_port(port) for port in found.get("port", "").split(",")):
        raise ValueError("a port is no number")
    if any(found.get(name, words[0]) not in words for name, words in _DSN_WORDS.items()):
        raise ValueError("an option is none that libpq knows")
    # Several URLs with commas between them would be one of a database with a long name.
    if "://" in found.get("dbname", ""):
        raise ValueError("this is more than one URL")
    return found


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdecimal() and 0 < int(text) < 65536)


def read_redis_url(url: str) -> RedisUrl:
    """Of `redis://`, `rediss://` (TLS), their `valkey` twins, or `unix://path?db=0`. Raises: ValueError."""
    parts = split_url(url, _REDIS_SCHEMES, needs_host=False)
    is_unix = parts.scheme == "unix"
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    # A password ends at the first `/`, `?` or `#` that stands in it as it is: what follows would be taken for these.
    number = options.pop("db", "" if is_unix else parts.path.removeprefix("/")) or "0"
    if options or parts.fragment or not (number.isascii() and number.isdecimal()) or (is_unix and not parts.path):
        raise ValueError("this is not the URL of a Redis")
    return RedisUrl(
        path=unquote(parts.path) if is_unix else "",
        host=parts.hostname or "localhost",
        port=parts.port or 6379,
        tls=parts.scheme in ("rediss", "valkeys"),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=int(number),
    )


def split_url(url: str, schemes: Sequence[str] = (), *, needs_host: bool = True) -> SplitResult:
    """The parts of a URL, whose port is one. `schemes`: those that it may have. Raises: ValueError."""
    try:
        parts = urlsplit(url)
        is_right = (not schemes or parts.scheme in schemes) and parts.port != 0
        if needs_host and not _HOST.fullmatch(parts.hostname or ""):
            is_right = False
    except ValueError:
        # Whose message may hold a part of the password.
        is_right = False
    if not is_right:
        raise ValueError("this is no such URL")
    return parts
