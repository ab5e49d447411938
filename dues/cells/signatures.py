"""What the directory and a cell say to each other is signed with a key that only those two know.

The directory's CELLS_KEY makes the keys of all cells; each cell has its own alone. So whoever breaks into a cell cannot
speak for the directory to another one.
"""

import hmac
import re
import time
from hashlib import sha256

from config import ConfigError, Settings
from dues.errors import Misdirected, Unavailable
from dues.settings import settings

# Longer than a client takes to send a body that the gateway collects before it passes the request on.
LIFE_S = 60
# How far the clocks of two machines may be apart.
SLACK_S = 15

# The fields of HTTP: who a caller is, and the signature of what one of our own asks.
ASSERTION, SIGNED, SIGNED_BY = "x-dues-assertion", "x-dues-signed", "x-dues-signed-by"
# And where the gateway is to send a request: the name of a cell, or this for the directory.
CELL, DIRECTORY = "x-dues-cell", "directory"

_SIGNED = re.compile(r"(\d{1,12})\.([0-9a-f]{64})")


def check_cells(config: Settings) -> None:
    """Raises: ConfigError where the settings of cells do not go together."""
    if config.cells and config.cell:
        raise ConfigError("CELLS and CELL are both set: a Dues is a directory or a cell")
    if (config.cells or config.cell) and not config.cells_key:
        raise ConfigError("CELLS_KEY is not set: cells and their directory need it")
    names = [word.partition("=")[0] for word in config.cells.split()]
    if len(names) > len(set(names)):
        raise ConfigError("CELLS names a cell twice")
    if DIRECTORY in (*names, config.cell.partition("=")[0]):
        raise ConfigError(f"no cell can be named {DIRECTORY}: the gateway means the directory by that")


def is_directory() -> bool:
    return bool(settings().cells)


def own_name() -> str:
    """This cell's; empty in the directory, and where there are no cells."""
    return settings().cell.partition("=")[0]


def addresses() -> dict[str, str]:
    """In the directory: where each cell is, by its name."""
    pairs = (word.partition("=") for word in settings().cells.split())
    return {name: url.rstrip("/") for name, _, url in pairs}


def directory_address() -> str:
    """In a cell."""
    return settings().cell.partition("=")[2].rstrip("/")


def key_for(name: str) -> str:
    """In the directory: the CELLS_KEY of the cell with this name."""
    return derived_key(settings().cells_key, name)


def derived_key(directorys: str, name: str) -> str:
    """The same, of the directory's own key."""
    return hmac.digest(directorys.encode(), b"cell\0" + name.encode(), sha256).hex()


def key_with(name: str) -> bytes:
    """The key that is shared with a cell: the directory derives it, the cell has it."""
    return (settings().cells_key if own_name() else key_for(name)).encode()


def sign(key: bytes, purpose: bytes, *parts: bytes) -> str:
    """In hexadecimal. No two lists of parts are signed as one."""
    told = b"".join(len(part).to_bytes(4) + part for part in (purpose, *parts))
    return hmac.new(key, told, sha256).hexdigest()


def is_signed(signature: str, key: bytes, purpose: bytes, *parts: bytes) -> bool:
    return hmac.compare_digest(sign(key, purpose, *parts).encode(), signature.encode())


def stamp() -> str:
    """The present second, by this machine's clock."""
    return str(int(time.time()))


def require_recent(signed_at: str) -> None:
    """Of something whose signature is right. Raises: Unavailable."""
    age = time.time() - int(signed_at)
    if not -SLACK_S <= age <= LIFE_S:
        raise Unavailable(f"what the directory has said of this request is {age:.0f} s old", code="assertion_expired")


def signed_fields(name: str, method: str, target: str, body: bytes) -> dict[str, str]:
    """The header fields of a request between a cell with this name and the directory."""
    at = stamp()
    signature = sign(key_with(name), b"request", *_parts(method, target, body, at))
    return {SIGNED: f"{at}.{signature}", SIGNED_BY: own_name()}


def require_signed(name: str, signed: str | None, method: str, target: str, body: bytes) -> None:
    """Raises: Misdirected for a request that is not signed by the other end; Unavailable."""
    found = _SIGNED.fullmatch(signed or "")
    if found is None or not is_signed(found[2], key_with(name), b"request", *_parts(method, target, body, found[1])):
        raise Misdirected("this is asked by the servers of Dues among themselves alone")
    require_recent(found[1])


def _parts(method: str, target: str, body: bytes, at: str) -> tuple[bytes, ...]:
    return method.encode(), target.encode(), sha256(body).digest(), at.encode()
