"""What the directory says of the caller of one request, to the one cell that the gateway sends it to.

It says so in a header field: the facts (JSON in base64url), when it was said, the id that a new store is to have, and a
signature of all that together with the token, the method and the path. So it opens nothing for another request, another
caller or another cell, and nothing once its time is over.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from dues.cells.signatures import is_signed, require_recent, sign, stamp
from dues.errors import Misdirected

# The most that facts may have: a line of a request's head may have 8192 bytes, name and signature included.
LONGEST = 7900
_SEPARATOR = "."


class DefaultAddress(Struct):
    """What is printed on a person's receipts."""

    id: UUID
    label: str
    line1: str
    line2: str | None
    city: str
    region: str | None
    postal_code: str | None
    country: str
    company: str | None
    tax_id: str | None
    version: int


class Person(Struct):
    """An account, without what only the directory needs of it. `version` counts changes of the account and of its
    addresses; an `address` that is not told is not known."""

    id: UUID
    email: str
    email_normal: str
    name: str
    email_verified_at: datetime | None
    deleted_at: datetime | None
    version: int
    created_at: datetime
    address: DefaultAddress | UnsetType | None = UNSET


class Grant(Struct):
    """A token that is in force."""

    id: UUID
    scopes: list[str]
    store_id: UUID | None
    expires_at: datetime


class Facts(Struct):
    """The caller, and `other`: whom the path names beside them, if there is such an account."""

    token: Grant
    person: Person
    other: Person | None = None


class Assertion(NamedTuple):
    """`facts` as they were written, the same for each request of a caller; `store_id` for a new store."""

    facts: str
    store_id: UUID | None

    def read(self) -> Facts:
        return msgspec.json.decode(urlsafe_b64decode(self.facts), type=Facts)


def pack(facts: bytes) -> str:
    """The facts' JSON as an assertion has it."""
    return urlsafe_b64encode(facts).decode()


def write(key: bytes, facts: str, method: str, path: str, token: str, store_id: UUID | None = None) -> str:
    """The header field's value. `facts` as `pack()` made them."""
    at, new = stamp(), str(store_id or "")
    return _SEPARATOR.join((facts, at, new, sign(key, b"assertion", *_parts(facts, at, new, method, path, token))))


def verify(key: bytes, sent: str | None, method: str, path: str, token: str) -> Assertion:
    """Raises: Misdirected for a request that did not come by way of the directory; Unavailable where that was too long
    ago."""
    match (sent or "").split(_SEPARATOR):
        case [facts, at, new, signature] if is_signed(
            signature, key, b"assertion", *_parts(facts, at, new, method, path, token)
        ):
            require_recent(at)
            return Assertion(facts, UUID(new) if new else None)
    raise Misdirected("the directory has not said who this is: ask at the public address", code="not_by_the_directory")


def _parts(facts: str, at: str, new: str, method: str, path: str, token: str) -> tuple[bytes, ...]:
    digest = sha256(token.encode()).digest()
    return (*(each.encode() for each in (facts, at, new, method, path)), digest)
