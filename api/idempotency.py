"""Idempotency-Key: the same POST sent again has its effect once and gets the first answer again.

The answer is kept for 24 hours, written in the transaction of the effect: one cannot exist without the other.
A scope is the caller, the method and the route; keys of different callers never meet.
"""

import hmac
import re
from collections.abc import Callable
from hashlib import sha256

import ujson
from flask import request
from sqlalchemy import text

from api.body import read_body
from api.http import Reply
from dues.accounts.actor import Actor
from dues.db import db
from dues.errors import BadRequest, Conflict, ValidationFailed
from dues.settings import settings

_KEY = re.compile(r"[\x21-\x7e]{1,255}")

_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:scope || ' ' || :key, 0))")
_FIND = text(
    "select request_hash, status, headers, body from idempotency_keys"
    " where scope = :scope and key = :key and created_at > now() - interval '24 hours'"
)
_KEEP = text(
    "insert into idempotency_keys(scope, key, request_hash, status, headers, body)"
    " values (:scope, :key, :request_hash, :status, cast(:headers as jsonb), :body)"
    " on conflict (scope, key) do update set request_hash = excluded.request_hash, status = excluded.status,"
    " headers = excluded.headers, body = excluded.body, created_at = now()"
)


def once(actor: Actor | None, write: Callable[[bytes], Reply], *, required: bool) -> Reply:
    """Run `write` with the request's body, or give the answer that the same key got before.

    Raises: BadRequest without a key where one is required, or with one that is malformed; Conflict while the first
    request still runs; ValidationFailed when the key was used with another body.
    """
    key = request.headers.get("Idempotency-Key")
    if key is None:
        if required:
            raise BadRequest("this needs an Idempotency-Key header", code="idempotency_key_required")
        return write(read_body())
    if not _KEY.fullmatch(key):
        raise BadRequest("an Idempotency-Key is 1 to 255 visible ASCII characters", code="invalid_idempotency_key")
    body = read_body()
    caller = str(actor.user_id) if actor else "anonymous"
    named = {"scope": f"{caller} {request.method} {request.path}", "key": key}
    session = db.session()
    if not session.scalar(_LOCK, named):
        raise Conflict(
            "the first request with this Idempotency-Key is still running",
            code="idempotency_key_in_use",
            headers={"Retry-After": "1"},
        )
    # Keyed, because a body may hold a password: the table alone must not help to guess it.
    request_hash = hmac.digest(settings().secret_key.encode(), b"idempotency\0" + body, sha256)
    if kept := session.execute(_FIND, named).first():
        if not hmac.compare_digest(bytes(kept.request_hash), request_hash):
            raise ValidationFailed("this Idempotency-Key was used with another body", code="idempotency_key_reused")
        return Reply(kept.body.encode() or None, kept.status, {**kept.headers, "Idempotency-Replayed": "true"})
    reply = write(body)
    if 200 <= reply.status < 300:
        kept_as = {
            "request_hash": request_hash,
            "status": reply.status,
            "headers": ujson.dumps(reply.headers),
            "body": (reply.body or b"").decode(),
        }
        session.execute(_KEEP, named | kept_as)
    return reply
