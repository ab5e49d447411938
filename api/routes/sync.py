"""Sync: a client that was offline sends what it did meanwhile, and is told what has changed."""

from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.auth import identify, require_scope
from api.composition import Part
from api.long_poll import wanted_wait
from api.offline import Operation, Operations
from api.reply import Poke, Reply
from api.request import parameters_of
from api.routing import Call, Routes
from dues.accounts.actor import Actor
from dues.clock import Moment
from dues.errors import InvalidParameter, ValidationFailed
from dues.observability.logs import log_fields
from dues.sync import changes
from dues.sync.changes import MOST_CHANGES, Page, Reader, pull
from dues.sync.cursor import Cursor
from dues.sync.cursor import read as read_cursor
from dues.sync.cursor import write as write_cursor
from dues.sync.moved import Watch
from dues.sync.types import TYPES
from dues.validation import validate

PATH = "/v1/sync"
MOST_OPERATIONS = 100

Type = Literal["address", "comment", "follow", "like", "me", "package", "payment", "post", "subscription"]
Types = Annotated[list[Type], Meta(min_length=1, max_length=50)]

_POST = "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"
_CHANGE = {"type": "post", "id": _POST, "op": "delete", "version": 3, "data": None, "by_op": None}
routes = Routes(
    "sync",
    examples={
        "cursor": None,
        "SyncChanges.cursor": "Yl9zaWduZWQgYW5kIG9wYXF1ZQ",
        "SyncAnswer.cursor": "Yl9zaWduZWQgYW5kIG9wYXF1ZQ",
        "SyncChanges.changes": [_CHANGE],
        "SyncAnswer.changes": [_CHANGE],
        "SyncAnswer.results": [{"id": _POST, "status": 204, "replayed": False, "version": None, "location": None}],
    },
    bodies={
        "NewSync": {
            "all that there is": {"cursor": None},
            "what was done offline": {
                "cursor": None,
                "ops": [
                    {
                        "id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f21",
                        "at": "2026-11-26T09:00:00Z",
                        "method": "PATCH",
                        "path": f"/v1/posts/{_POST}",
                        "body": {"body": "We open at eight."},
                        "if_version": 2,
                    }
                ],
            },
        },
    },
)

_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "cursor",
        "in": "query",
        "description": "Where the client stands. Without one it is told everything.",
        "schema": {"type": "string"},
    },
    {
        "name": "types",
        "in": "query",
        "description": "Only these, with commas between them; else those of the cursor, or all that may be read.",
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": {"type": "string", "enum": list(TYPES)}},
    },
    {
        "name": "limit",
        "in": "query",
        "description": "How many changes at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_CHANGES, "default": MOST_CHANGES},
    },
]


class SyncOperation(Struct, forbid_unknown_fields=True):
    """One request, as the client would have sent it at once. `id`: chosen by the client, the same each time it is
    sent. `at`: when it was done, by the client's clock. `after`: operations without which it is not to be tried."""

    id: UUID
    at: Moment
    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^/v1/")]
    body: Any = None
    if_version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    after: Annotated[list[UUID], Meta(max_length=MOST_OPERATIONS)] = []


class NewSync(Struct, forbid_unknown_fields=True):
    """`client` is the device, for the logs. `cursor`: where it stands, null at first. `ops`: what it did meanwhile.
    `types`: what it is to be told of, else what it was told of before, or all that its token may read."""

    cursor: Annotated[str, Meta(max_length=20_000, pattern=r"^[A-Za-z0-9_-]*$")] | None = None
    ops: Annotated[list[SyncOperation], Meta(max_length=MOST_OPERATIONS)] = []
    types: Types | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_CHANGES)] = MOST_CHANGES
    client: UUID | UnsetType = UNSET


class SyncChange(Struct):
    """The newest state of one row. It is applied where its `version` is above that of the row that the client has.
    `by_op` is the operation that has changed it last, where one did."""

    type: str
    id: str
    op: Literal["put", "delete"]
    version: int
    data: Any
    by_op: str | None


class SyncResult(Struct):
    """What became of an operation. `replayed`: it was done before; then `body` has no more than the row's `id`.
    `problem` stands in the place of `body` where it has failed; of 412 with `current`, the row as it is."""

    id: str
    status: int
    replayed: bool
    version: int | None
    location: str | None
    body: Any | UnsetType = UNSET
    problem: Any | UnsetType = UNSET


class SyncChanges(Struct):
    """`cursor` is to be sent with the next request. `has_more`: there is more already. Of the types in `reset` the
    client forgets everything before it applies the changes."""

    changes: list[SyncChange]
    cursor: str
    has_more: bool
    reset: list[str]


class SyncAnswer(SyncChanges, kw_only=True):
    """The same with the results of the operations, in their order."""

    results: list[SyncResult]


@routes.post(
    PATH,
    "account:read",
    body=NewSync,
    returns=SyncAnswer,
    statuses=(200,),
    composes=True,
    idempotency="no",
    responses={410: {}},
)
def sync(call: Call) -> Reply:
    """Send what was done offline, and get what has changed

    The operations run in their order, each by itself, and each counts as one request. An operation that was done before
    is not done again, for 90 days. One that names another in `after`, refers to it or uses the id that it chose for its
    row is not tried where that has failed (424). Operations that move money are refused when they are older than a
    day (`stale_operation`).

    Changes are the newest state of each row that has changed since the cursor was given, those of these operations
    included. Ask again while `has_more`.
    """
    wanted = validate(call.data, NewSync)
    reader = _reader(call.actor)
    cursor = None
    if wanted.cursor is not None:
        cursor = read_cursor(wanted.cursor, reader.user_id)
        if cursor is None:
            raise ValidationFailed.of("#/cursor", "is not a cursor of yours", code="invalid_cursor")
    types = _types(call.actor, None if wanted.types is UNSET else list(wanted.types), cursor)
    with log_fields(client=None if wanted.client is UNSET else str(wanted.client)):
        if wanted.ops:
            changes.require_known(cursor or Cursor())
        results = Operations(call, [_operation(op) for op in wanted.ops]).run() if wanted.ops else []
        page = pull(reader, types, cursor, wanted.limit)
    return _reply(page, reader, b'"results":[%b],' % b",".join(results))


@routes.get(
    PATH,
    "account:read",
    returns=SyncChanges,
    parameters=_PARAMETERS,
    waits=True,
    alone=True,
    responses={410: {}},
)
def pull_changes(call: Call) -> Reply:
    """Get what has changed

    With `Prefer: wait=20` a client that has missed nothing is answered when there is something new.
    """
    reader, given = _reader(call.actor), _given(call)
    cursor = None
    if text := given.get("cursor"):
        cursor = read_cursor(text, reader.user_id)
        if cursor is None:
            raise InvalidParameter.of("cursor", "is not a cursor of yours", code="invalid_cursor")
    types = _types(call.actor, _listed(given.get("types")), cursor)
    most = _limit(given.get("limit"))
    page = pull(reader, types, cursor, most)
    reply = _reply(page, reader)
    seconds = wanted_wait(call.request)
    if seconds and page.is_empty:
        watch = Watch(reader.user_id, reader.only_store, tuple(types), page.cursor.base)
        reply.poke = Poke(watch, seconds, partial(_pull_again, call, types, page.cursor, most))
    return reply


def _pull_again(call: Call, types: list[str], cursor: Cursor, most: int) -> Reply:
    """After a while, in which the token may have been revoked. Raises: Unauthenticated."""
    identify(call.request, call.route.scope, None)
    reader = _reader(call.actor)
    return _reply(pull(reader, types, cursor, most), reader)


def _reader(actor: Actor) -> Reader:
    return Reader(actor.user_id, actor.store_id)


def _operation(op: SyncOperation) -> Operation:
    part = Part(
        str(op.id),
        op.method,
        op.path,
        op.body,
        None if op.if_version is UNSET else op.if_version,
        str(op.id),
        frozenset(map(str, op.after)),
    )
    return Operation(part, op.at)


def _types(actor: Actor, wanted: list[str] | None, cursor: Cursor | None) -> list[str]:
    """Raises: Forbidden for one that the token may not read."""
    if wanted is None:
        wanted = [name for name in cursor.revs if name in TYPES] if cursor else []
    for name in wanted:
        if scope := TYPES[name].scope:
            require_scope(actor, scope)
    readable = [name for name, synced in TYPES.items() if synced.scope is None or synced.scope in actor.scopes]
    return sorted(set(wanted)) or readable


def _given(call: Call) -> dict[str, str]:
    """Raises: InvalidParameter for one that is given twice."""
    given: dict[str, str] = {}
    for name, value in parameters_of(call.request.query):
        if name in given:
            raise InvalidParameter.of(name, "is given twice", code="repeated")
        given[name] = value
    return given


def _listed(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = text.split(",")
    if unknown := [name for name in names if name not in TYPES]:
        raise InvalidParameter.of("types", f"{unknown[0][:50]!r} is not one of {', '.join(TYPES)}", code="choice")
    return names


def _limit(text: str | None) -> int:
    if text is None:
        return MOST_CHANGES
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= MOST_CHANGES):
        raise InvalidParameter.of("limit", f"is not a number from 1 to {MOST_CHANGES}", code="range")
    return int(text)


def _reply(page: Page, reader: Reader, first: bytes = b"") -> Reply:
    end = {
        "cursor": write_cursor(page.cursor, reader.user_id),
        "has_more": page.has_more,
        "reset": page.reset,
    }
    body = b'{%b"changes":[%b],%b' % (first, b",".join(page.changes), msgspec.json.encode(end)[1:])
    return Reply(body, 200, {"Cache-Control": "no-store"})
