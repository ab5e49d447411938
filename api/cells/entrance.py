"""In a cell: a request with a token is let in where the directory has said, for this very request, who is calling.

Who sends it is no matter, nor which way it comes: without that, it is refused. The cell's rows of the caller are made
equal to what is said first; that they are is remembered for a while, since most requests come again.
"""

import time
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from api.request import OPERATORS, Request
from config import Settings
from dues.cells import assertion
from dues.cells.assertion import Facts
from dues.cells.copies import write_facts
from dues.cells.signatures import ASSERTION
from dues.errors import Misdirected

# What the servers of Dues ask one another.
INTERNAL = "/cells/"

# For so long it is taken for granted that the rows are as they were found.
_SEEN_FOR_S = 30.0
_MOST_SEEN = 20_000


class Unwritten(NamedTuple):
    """What is to be written before a request goes on. digest: of all of it."""

    facts: Facts
    token: str
    digest: bytes


class Entrance:
    """Of one process."""

    def __init__(self, config: Settings) -> None:
        self._key = config.cells_key.encode()
        # By digests, which are short however much is said.
        self._seen: dict[bytes, float] = {}

    def check(self, request: Request) -> Unwritten | None:
        """Returns: what to `write()` before the request goes on; None where nothing is to be written. Raises:
        Misdirected, Unavailable for a request that is not let in."""
        token = request.token
        if not token or request.path in OPERATORS or request.path.startswith(INTERNAL):
            return None
        said = _verified(self._key, request, token)
        # Facts are base64url, which has no blank.
        digest = sha256(f"{said.facts} {token}".encode()).digest()
        if self._seen.get(digest, 0.0) > time.monotonic():
            return None
        return Unwritten(said.read(), token, digest)

    def write(self, unwritten: Unwritten) -> None:
        """On a thread."""
        write_facts(unwritten.facts, unwritten.token)
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen[unwritten.digest] = time.monotonic() + _SEEN_FOR_S


def id_for_new_store(config: Settings, request: Request) -> UUID | None:
    """The id that the directory has for a store which this request makes; None where there are no cells. Raises:
    Misdirected."""
    if not config.cell:
        return None
    said = _verified(config.cells_key.encode(), request, request.token or "")
    if said.store_id is None:
        raise Misdirected("the directory has no place for this store: ask at the public address")
    return said.store_id


def _verified(key: bytes, request: Request, token: str) -> assertion.Assertion:
    method = request.method
    return assertion.verify(key, request.fields.get(ASSERTION), method, request.path, token)
