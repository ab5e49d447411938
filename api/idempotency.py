"""Idempotency-Key: the same POST sent again has its effect once and gets the first answer again.

The answer is kept for 24 hours, written in the transaction of the effect: one cannot exist without the other.
A scope is the caller, the method and the route; keys of different callers never meet.
"""

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from uuid import UUID

import ujson

from api.auth import bearer_token
from api.reply import Reply
from api.request import Request
from dues.errors import BadRequest, Conflict, ValidationFailed
from dues.postgres import fetch_row, run_later
from dues.settings import settings

# No comma: where a server joins two headers of one name, it is what stands between them.
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]{1,255}")

# Two statements, sent together: each sees what is committed as it begins, so the look, which begins after the lock was
# taken, finds what the lock's previous holder has kept. The second tells what became of the first.
_LOCK = """
    select set_config('dues.has_key',
        pg_try_advisory_xact_lock(hashtextextended(%(scope)s::text || ' ' || %(key)s::text, 0))::text, true)
"""
# Something to commit: as every commit it is acknowledged only when the standby that commits wait for has all that was
# before it. A kept answer that can be seen may not be there yet, since PostgreSQL shows what is committed as soon as it
# gives up that wait, and after a crash.
_CONFIRM = "select pg_logical_emit_message(true, 'dues', '')"
_FIND = """
    select current_setting('dues.has_key')::bool, k.request_hash, k.status, k.headers, k.body
    from (select) one left join idempotency_keys k
        on k.scope = %(scope)s and k.key = %(key)s and k.created_at > now() - interval '24 hours'
"""
# The same of several keys at once; and whether all of them are new.
_LOCK_ALL = """
    select set_config('dues.has_key', bool_and(pg_try_advisory_xact_lock(
        hashtextextended(k.scope || ' ' || k.key, 0)))::text, true)
    from json_to_recordset(%(named)s::json) as k(scope text, key text)
"""
_ARE_NEW = """
    select current_setting('dues.has_key')::bool and not exists (
        select from json_to_recordset(%(named)s::json) as n(scope text, key text)
        join idempotency_keys k on k.scope = n.scope and k.key = n.key and k.created_at > now() - interval '24 hours')
"""
_KEEP = """
    insert into idempotency_keys(scope, key, request_hash, status, headers, body)
    select k.scope, k.key, decode(k.request_hash, 'hex'), k.status, k.headers, k.body
    from json_to_recordset(%(kept)s::json)
        as k(scope text, key text, request_hash text, status int, headers jsonb, body text)
    on conflict (scope, key) do update set request_hash = excluded.request_hash, status = excluded.status,
        headers = excluded.headers, body = excluded.body, created_at = now()
"""


def idempotency_key(request: Request, *, required: bool) -> str | None:
    """The request's key. Raises: BadRequest for one that is malformed, or without one where it is required."""
    key = request.header("idempotency-key")
    if key is None and required:
        raise BadRequest("this needs an Idempotency-Key header", code="idempotency_key_required")
    if key is None:
        return None
    if not _KEY.fullmatch(key := key.strip(" \t")):
        raise BadRequest(
            "there is one Idempotency-Key, of 1 to 255 visible ASCII characters without a comma",
            code="invalid_idempotency_key",
        )
    return key


def secret_seed(request: Request, key: str | None, body: bytes) -> bytes:
    """32 bytes to make an answer's secret from: for a request with a key the same each time it is sent, so that
    nothing need be kept to answer it again. They cannot be found from our secret key and all our tables, since the
    request itself holds a secret that is not among them (a password, or a token)."""
    if key is None:
        return secrets.token_bytes(32)
    named = "\0".join((bearer_token(request) or "", request.method, request.path, key))
    return keyed_hash(b"seed\0" + sha256(named.encode()).digest() + body)


def once(request: Request, caller: UUID | None, key: str, body: bytes, write: Callable[[], Reply]) -> Reply:
    """Call `write`, or give the answer that the same caller, key and body got before; `body` is in its canonical form
    (api/body.py), so that it is the same however a client writes it.

    Raises: Conflict while the first request still runs; ValidationFailed when the key was used with another body.
    """
    named = _named(caller, request.method, request.path, key)
    run_later(_LOCK, named)
    row = fetch_row(_FIND, named, hot=True)
    assert row
    has_key, kept_hash, status, headers, kept_body = row
    if not has_key:
        raise Conflict(
            "the first request with this Idempotency-Key is still running",
            code="idempotency_key_in_use",
            headers={"Retry-After": "1"},
        )
    request_hash = _hash(body)
    if kept_hash is not None:
        if not hmac.compare_digest(bytes(kept_hash), request_hash):
            raise ValidationFailed("this Idempotency-Key was used with another body", code="idempotency_key_reused")
        run_later(_CONFIRM, {})
        return Reply(kept_body.encode() or None, status, {**headers, "Idempotency-Replayed": "true"})
    reply = write()
    _keep([(named, request_hash, reply)])
    return reply


def are_new(caller: UUID | None, requests: Iterable[tuple[str, str, str]]) -> bool:
    """Take the keys of several requests, each a method, a path and the key, for the present unit of work. Returns:
    whether none was used before, or is being used now; then `NewKeys` may look after them."""
    named = ujson.dumps([_named(caller, *request) for request in requests])
    run_later(_LOCK_ALL, {"named": named})
    row = fetch_row(_ARE_NEW, {"named": named}, hot=True)
    return bool(row and row[0])


class NewKeys:
    """Keys that `are_new()` has found to be new. `once()` takes the place of the function for them; what it gave is
    kept by `keep_all()`, in one statement, once all replies are read."""

    def __init__(self) -> None:
        self._given: list[tuple[dict[str, str], bytes, Reply]] = []

    def once(self, request: Request, caller: UUID | None, key: str, body: bytes, write: Callable[[], Reply]) -> Reply:
        reply = write()
        self._given.append((_named(caller, request.method, request.path, key), _hash(body), reply))
        return reply

    def keep_all(self) -> None:
        _keep(self._given)


def _named(caller: UUID | None, method: str, path: str, key: str) -> dict[str, str]:
    return {"scope": f"{caller or 'anonymous'} {method} {path}", "key": key}


def _hash(body: bytes) -> bytes:
    # Keyed, because a body may hold a password: the table alone must not help to guess it.
    return keyed_hash(b"idempotency\0" + body)


def _keep(given: Iterable[tuple[Mapping[str, str], bytes, Reply]]) -> None:
    """Keep what keys, with the hashes of their requests, were answered, where that is a success."""
    kept = [
        {
            **named,
            "request_hash": request_hash.hex(),
            "status": reply.status,
            "headers": reply.headers,
            "body": (reply.body or b"").decode(),
        }
        for named, request_hash, reply in given
        if 200 <= reply.status < 300
    ]
    if kept:
        run_later(_KEEP, {"kept": ujson.dumps(kept, ensure_ascii=False, escape_forward_slashes=False)})


def keyed_hash(data: bytes) -> bytes:
    """A hash that cannot be guessed at without our secret key: a body may hold a password."""
    return hmac.digest(settings().secret_key.encode(), data, sha256)
