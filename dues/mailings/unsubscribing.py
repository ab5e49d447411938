"""Unsubscribing with one click (RFC 8058): anybody who has a mail's link can unsubscribe its reader from the store's
posts.

The link's token contains the store, the reader and the mailing, and is signed, so it cannot be forged, and does not
have to be stored. It allows nothing else, so forwarding a mail reveals no more than this.

Mail programs do not follow redirects when they unsubscribe. So for a store that is moving to another Dues, or has moved
there, a job forwards the request, once it is decided where the store is.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from dues.errors import NotFound
from dues.jobs import Retry, enqueue
from dues.jobs.kinds import UNSUBSCRIBE_ELSEWHERE
from dues.jobs.outbox import JSON
from dues.mailings import elsewhere
from dues.moving import stores_that_move
from dues.postgres import fetch_row, transaction, unit_of_work
from dues.settings import settings
from dues.stores.access import moved_to

_SIGNATURE_BYTES = 16
# The mailing of a mail that belongs to none: a test mail.
NO_MAILING = UUID(int=0)
# Part of the form that a mail program sends, in every encoding of the form.
ONE_CLICK = b"One-Click"

# How soon to check again where a store is that is being moved.
_AGAIN_S = 5.0
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}

_SUPPRESS = """
    insert into mail_suppressions(store_id, user_id, reason, address)
    select s.id, u.id, 'unsubscribed', u.email_normal from stores s, users u
    where s.id = %(store_id)s and u.id = %(user_id)s on conflict do nothing returning reason
"""
_COUNT = """
    with marked as (
        update mailing_recipients r set unsubscribed_at = now() from mailings m
        where m.store_id = %(store_id)s and m.id = %(mailing_id)s and r.store_id = m.store_id
            and r.post_id = m.post_id and r.user_id = %(user_id)s and r.unsubscribed_at is null
        returning r.store_id)
    update mailings set unsubscribed = unsubscribed + 1, version = version + 1, updated_at = now()
    where store_id = %(store_id)s and id = %(mailing_id)s and exists (select from marked) returning id
"""
# What the reader has said is theirs to take back; that an address does not exist is not.
_LIFT = """
    with gone as (
        delete from mail_suppressions
        where store_id = %(store_id)s and user_id = %(user_id)s and reason in ('unsubscribed', 'complained')
        returning 1)
    select count(*) from gone
"""


@dataclass(frozen=True)
class Reader:
    """The reader of a mail, and the mailing that it belongs to."""

    store_id: UUID
    user_id: UUID
    mailing_id: UUID


def unsubscribe_url(token: str) -> str:
    """The link with a token."""
    return f"{settings().public_url}/v1/unsubscribe?token={token}"


def write_token(reader: Reader) -> str:
    """The token of a reader: 86 characters of base64url."""
    payload = reader.store_id.bytes + reader.user_id.bytes + reader.mailing_id.bytes
    return _encode(_sign(payload) + payload)


def read_token(token: str) -> Reader:
    """The reader that a token belongs to. Raises: NotFound if it is not a valid token."""
    try:
        raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except ValueError:
        raw = b""
    signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    # Base64 has several spellings of the same bytes; only the one that was given out is valid.
    is_ours = hmac.compare_digest(signature, _sign(payload)) and len(payload) == 3 * 16 and _encode(raw) == token
    if not is_ours:
        raise NotFound("this link is not complete: copy all of it, or use the newest mail")
    return Reader(UUID(bytes=payload[:16]), UUID(bytes=payload[16:32]), UUID(bytes=payload[32:]))


def unsubscribe(reader: Reader) -> None:
    """Send this user no more posts of the store; repeating it changes nothing. Part of the caller's transaction()."""
    unit_of_work()
    values = _values(reader)
    if fetch_row(_SUPPRESS, values):
        fetch_row(_COUNT, values)


def is_here(reader: Reader) -> bool:
    """Whether changes for the store's readers can be written here now."""
    return reader.store_id not in stores_that_move()


def pass_on_later(reader: Reader) -> None:
    """Enqueue a job that forwards this user's unsubscribing from a store that is not here. Part of the caller's
    transaction()."""
    args: dict[str, JSON] = {name: str(value) for name, value in _values(reader).items()}
    # The job does not belong to the store, because a store's jobs move with it. A link that is sent many times enqueues
    # no second job while the first waits.
    enqueue(UNSUBSCRIBE_ELSEWHERE, args, dedupe_key=f"{reader.store_id} {reader.user_id}")


def pass_on(reader: Reader) -> None:
    """Unsubscribe where the store is. Raises: Retry while that is not decided, or if the other server does not
    answer."""
    address = moved_to(reader.store_id)
    if address is None:
        with transaction():
            unsubscribe(reader)
        return
    if not address:
        raise Retry(_AGAIN_S, "the store is being moved to another server", charged=False)
    url = f"{address}/v1/unsubscribe?token={write_token(reader)}"
    elsewhere.post(url, b"List-Unsubscribe=" + ONE_CLICK, _FORM, expected=200)


def subscribe_again(reader: Reader) -> None:
    """Withdraw unsubscribing. Part of the caller's transaction()."""
    unit_of_work()
    fetch_row(_LIFT, _values(reader))


def _sign(payload: bytes) -> bytes:
    return hmac.digest(settings().secret_key.encode(), b"unsubscribe\0" + payload, sha256)[:_SIGNATURE_BYTES]


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _values(reader: Reader) -> dict[str, object]:
    return {"store_id": reader.store_id, "user_id": reader.user_id, "mailing_id": reader.mailing_id}
