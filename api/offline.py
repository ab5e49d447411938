"""Operations that a client did while it was offline, as parts of one request (api/composition.py).

They run in their order, each in a transaction() of its own. One that was done before is not done again, and one that
needs another that has failed is not tried.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from hmac import compare_digest
from typing import Any
from uuid import UUID

import msgspec
import ujson

from api.composition import Part, Parts, beyond_limits, find
from api.http import problem_of
from api.idempotency import keyed_hash
from api.reply import Reply, json_reply, no_content
from api.request import Request, read_target
from api.routing import Call
from dues.clock import now
from dues.errors import BadRequest, Conflict, FailedDependency, Problem, ValidationFailed
from dues.ids import parse_id
from dues.sync import operations
from dues.sync.operations import Done

# Nobody is charged for what was tapped longer ago than this, or at a time that a clock which is wrong made up.
STALE_AFTER = timedelta(hours=24)


class Operation(msgspec.Struct, frozen=True):
    """A part, and when its client did it, by the client's clock."""

    part: Part
    at: datetime


class Operations:
    """Those of one call."""

    def __init__(self, call: Call, ops: list[Operation]) -> None:
        self._call, self._ops = call, ops
        self._user_id = call.actor.user_id
        self._parts = Parts(call, once=self._once, named=_op_id)
        self._present: Operation
        # Ids that clients have chosen for rows, of those that could not be made.
        self._failed: dict[str, str] = {}

    def run(self) -> list[bytes]:
        """The result of each, as JSON, in their order."""
        refused = beyond_limits(self._call, [op.part for op in self._ops])
        self._remember_earlier()
        return [self._result(op, refused.get(op.part.id)) for op in self._ops]

    def _remember_earlier(self) -> None:
        """Operations that earlier requests have done count where these rest on them."""
        named = {_op_id(name) for op in self._ops for name in _named(op.part)}
        ids = {UUID(name) for name in named if _is_id(name)}
        for op_id, resource_id in operations.find_done(self._user_id, ids).items():
            self._parts.replies[str(op_id)] = json_reply({"id": resource_id and str(resource_id)})

    def _result(self, op: Operation, refused: Problem | None) -> bytes:
        part = op.part
        if refused is None and (parent := self._missing_parent(part)):
            refused = FailedDependency(f"it uses the id of what {parent} was to make, which has failed")
        if refused:
            reply = self._parts.refuse(part, refused)
        else:
            self._present = op
            reply = self._parts.answer(part)
        if part.method == "DELETE" and reply.status == 404 and self._is_known(part):
            reply = self._parts.replies[part.id] = no_content()
        chosen = part.body.get("id") if part.method == "POST" and isinstance(part.body, dict) else None
        if isinstance(chosen, str) and parse_id(chosen):
            if reply.status >= 400:
                self._failed[chosen.lower()] = part.id
            else:
                self._failed.pop(chosen.lower(), None)
        return _shown(part, reply, self._current(part) if reply.status == 412 else None)

    def _missing_parent(self, part: Part) -> str | None:
        if not self._failed:
            return None
        used = {*part.path.partition("?")[0].lower().split("/"), *_texts(part.body)}
        if part.method == "POST" and isinstance(part.body, dict):
            used.discard(str(part.body.get("id")).lower())
        return next((self._failed[id_] for id_ in used & self._failed.keys()), None)

    def _is_known(self, part: Part) -> bool:
        """Whether its path is one that there could be something at."""
        request = replace(self._call.request, method=part.method, path=read_target(part.path)[0])
        try:
            return None not in find(request)[1].values()
        except Problem:
            return False

    def _current(self, part: Part) -> Any:
        """The row as it is, for a client whose version of it is too old."""
        if part.method == "POST":
            return None
        request = Part(part.id, "GET", part.path.partition("?")[0])
        try:
            reply = Parts(self._call, replies=self._parts.replies.copy()).perform(request)
        except Exception as error:
            problem_of(error)
            return None
        return msgspec.Raw(reply.body or b"null")

    def _once(self, request: Request, caller: UUID | None, key: str, body: bytes, write: Callable[[], Reply]) -> Reply:
        """Do the present operation, or tell that it was done; the place of `once()` in api/idempotency.py.

        Raises: Conflict while another request does it, or where it is stale; ValidationFailed for the id of another.
        """
        route, _ = find(request)
        if route.seal:
            raise BadRequest(f"{route} shows a secret once, and cannot wait for a connection", code="not_composable")
        op_id = UUID(key)
        found = operations.begin(self._user_id, op_id)
        if found.is_running:
            raise Conflict("another request does this operation now", code="idempotency_key_in_use")
        part = self._present.part
        # As it was sent: references stay what they are, whatever they stand for.
        sent = msgspec.json.encode([part.method, part.path, part.body], order="deterministic")
        request_hash = keyed_hash(b"sync\0" + sent)
        if found.done:
            if not compare_digest(found.request_hash, request_hash):
                raise ValidationFailed("this id is that of another operation", code="idempotency_key_reused")
            return _again(found.done)
        if route.moves_money and abs(now() - self._present.at) > STALE_AFTER:
            raise Conflict(
                "this moves money, and by its client's clock was done more than a day ago, or is yet to come",
                code="stale_operation",
            )
        reply = write()
        if 200 <= reply.status < 300:
            operations.keep(self._user_id, op_id, request_hash, _done(reply))
        return reply


def _named(part: Part) -> set[str]:
    """The operations that a part rests on; none for one whose references are malformed, which is refused for it."""
    try:
        return part.references | part.after
    except Problem:
        return set(part.after)


def _is_id(text: str) -> bool:
    return parse_id(text) is not None and text == text.lower()


def _op_id(text: str) -> str:
    """The id of an operation as a reference writes it, as its result shows it: clients write UUIDs in either case, and
    some without hyphens."""
    try:
        return str(UUID(text))
    except ValueError:
        return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value.lower()
    elif isinstance(value, list | dict):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _texts(below)


def _version(reply: Reply) -> int | None:
    """That of the row in it: the part of its ETag before the point."""
    version, point, _ = reply.headers.get("ETag", "").strip('"').partition(".")
    return int(version) if point and version.isdecimal() else None


def _done(reply: Reply) -> Done:
    row_id = ujson.loads(reply.body).get("id") if reply.body else None
    return Done(
        reply.status,
        UUID(row_id) if isinstance(row_id, str) and _is_id(row_id) else None,
        _version(reply),
        reply.headers.get("Location"),
    )


def _again(done: Done) -> Reply:
    """What is known of an operation that was done before."""
    headers = {"Idempotency-Replayed": "true"}
    if done.version is not None:
        headers["ETag"] = f'"{done.version}."'
    if done.location:
        headers["Location"] = done.location
    if done.resource_id is None:
        return Reply(None, done.status, headers)
    return json_reply({"id": str(done.resource_id)}, done.status, headers)


def _shown(part: Part, reply: Reply, current: Any) -> bytes:
    """The result of an operation as JSON."""
    result = {
        "id": part.id,
        "status": reply.status,
        "replayed": "Idempotency-Replayed" in reply.headers,
        "version": _version(reply),
        "location": reply.headers.get("Location"),
    }
    if reply.status < 400:
        return msgspec.json.encode({**result, "body": msgspec.Raw(reply.body or b"null")})
    problem = ujson.loads(reply.body or b"{}")
    if reply.status == 412:
        result["version"] = problem.get("version")
        problem["current"] = current
    return msgspec.json.encode({**result, "problem": problem})
