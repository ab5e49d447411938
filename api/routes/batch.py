"""Batches: up to 100 requests in one, in their order, each as if it had come alone or all of them or none."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from api.auth import PUBLIC
from api.composition import Part, Parts, beyond_limits, result, route_of
from api.http import problem_of
from api.idempotency import idempotency_key
from api.long_poll import finished_reply, wanted_wait
from api.reply import Reply
from api.routing import Call, Routes
from dues.errors import BadRequest, FailedDependency, Fault, Problem, ValidationFailed
from dues.ids import parse_id
from dues.postgres import failure_of, repeated, transaction
from dues.postgres.constraints import take_turns
from dues.stores.access import refusing_lost_rights
from dues.validation import validate

routes = Routes(
    "batch",
    examples={
        "BatchResults.results": [
            {"id": "me", "status": 200, "headers": {"ETag": '"1"'}, "body": {"name": "Ada Lovelace"}},
        ],
    },
    bodies={
        "NewBatch": {
            "reads": {"operations": [{"id": "stores", "method": "GET", "path": "/v1/stores"}]},
            "a package, and a payment for it": {
                "atomic": True,
                "operations": [
                    {
                        "id": "gold",
                        "method": "POST",
                        "path": "/v1/stores/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20/packages",
                        "body": {"name": "Gold", "amount": 1900, "interval": "month"},
                    },
                    {
                        "id": "first",
                        "method": "POST",
                        "path": "/v1/stores/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20/payments",
                        "body": {"package_id": {"$ref": "gold#/id"}, "payment_method": "sandbox_ok"},
                    },
                ],
            },
        },
    },
)

MOST_OPERATIONS = 100
# So many creations are one transaction at most: where one of them fails, so many are done anew.
_MOST_TOGETHER = 25

OperationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$(?!\n)", description="letters, digits, - and _")]


class BatchOperation(Struct, forbid_unknown_fields=True):
    """One request. In `path`, a segment `$a.id` stands for the `id` in the answer of the earlier operation `a`; in
    `body`, `{"$ref": "a#/id"}` does. `if_version` is the version that a change or deletion is meant for."""

    id: OperationId
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^/v1/")]
    body: Any = None
    if_version: Annotated[int, Meta(ge=1)] | UnsetType = UNSET


class NewBatch(Struct, forbid_unknown_fields=True):
    """`atomic`: all of the operations or none of them. `on_error`: what is done with the rest after one has failed."""

    operations: Annotated[list[BatchOperation], Meta(min_length=1, max_length=MOST_OPERATIONS)]
    atomic: bool = False
    on_error: Literal["continue", "stop"] = "continue"


class BatchResult(Struct):
    """The answer that the operation would have got alone. Of its header fields, `headers` has ETag, Location,
    Retry-After and Idempotency-Replayed."""

    id: str
    status: int
    headers: dict[str, str]
    body: Any


class BatchResults(Struct):
    """In the order of the operations."""

    results: list[BatchResult]


@routes.post("/v1/batch", PUBLIC, body=NewBatch, returns=BatchResults, statuses=(207, 200), composes=True, waits=True)
def run_batch(call: Call) -> Reply:
    """Send up to 100 requests in one

    The operations run in their order. Each has the rights, limits and effects that it would have alone, and counts as
    one request. The answer is 207, with a result for each.

    An atomic batch is done as a whole and answered by 200; or nothing of it is done, and the answer is the problem of
    the first operation that failed.

    With an Idempotency-Key, a batch that was broken off is finished by sending it again: operations that had succeeded
    get their first answers, the others run. With `Prefer: wait=10` the answer comes when all slow work is done.

    Files, events, logging in and signing up cannot be part of a batch.
    """
    batch = _read(call)
    parts = [
        Part(
            operation.id,
            operation.method,
            operation.path,
            operation.body,
            None if operation.if_version is UNSET else operation.if_version,
            f"{call.key}/{operation.id}" if call.key else None,
        )
        for operation in batch.operations
    ]
    _check_references(parts)
    refused = beyond_limits(call, parts)
    seconds = wanted_wait(call.request)
    held = Hold(seconds, time.monotonic() + seconds)
    if batch.atomic:
        if refused:
            raise next(iter(refused.values()))
        return _reply(repeated(partial(_all_or_none, call, parts)), 200, held)
    return _reply(_one_by_one(call, parts, refused, stops=batch.on_error == "stop"), 207, held)


def _read(call: Call) -> NewBatch:
    """Raises: BadRequest where results could not be told apart by their ids; ValidationFailed."""
    call.key = idempotency_key(call.request, required=False)
    try:
        batch = validate(call.data, NewBatch)
    except ValidationFailed as invalid:
        if faults := [fault for fault in invalid.errors if fault.pointer.endswith("/id")]:
            raise BadRequest.of_faults(faults) from None
        raise
    seen: set[str] = set()
    faults = []
    for i, operation in enumerate(batch.operations):
        if operation.id in seen:
            faults.append(Fault(code="repeated", detail="is the id of another, too", pointer=f"#/operations/{i}/id"))
        seen.add(operation.id)
    if faults:
        raise BadRequest.of_faults(faults)
    return batch


def _check_references(parts: list[Part]) -> None:
    """Raises: BadRequest for references to anything but an earlier operation."""
    earlier: set[str] = set()
    faults = []
    for i, item in enumerate(parts):
        try:
            missing = item.references - earlier
        except Problem as problem:
            faults.append(Fault(code=problem.code, detail=problem.detail, pointer=f"#/operations/{i}/body"))
            missing = set()
        for name in sorted(missing):
            detail = f"refers to {name}, which is no earlier operation"
            faults.append(Fault(code="invalid_reference", detail=detail, pointer=f"#/operations/{i}"))
        earlier.add(item.id)
    if faults:
        raise BadRequest.of_faults(faults)


def _one_by_one(call: Call, items: list[Part], refused: dict[str, Problem], *, stops: bool) -> Parts:
    parts = Parts(call)
    has_failed = False
    for several in _runs(call, items):
        is_free = not (stops and has_failed) and refused.keys().isdisjoint(item.id for item in several)
        if len(several) > 1 and is_free and _answer_together(parts, several):
            continue
        for item in several:
            if stops and has_failed:
                reply = parts.refuse(item, FailedDependency("an earlier operation has failed", code="stopped"))
            elif problem := refused.get(item.id):
                reply = parts.refuse(item, problem)
            else:
                reply = parts.answer(item)
            has_failed = has_failed or reply.status >= 400
    return parts


def _runs(call: Call, items: list[Part]) -> Iterator[list[Part]]:
    """The operations in their order: those that create rows of one kind, one after the other, together."""

    def kind(numbered: tuple[int, Part]) -> object:
        route = route_of(call, numbered[1])
        is_creation = route is not None and route.method == "POST" and not route.prepare
        return (route.path, numbered[0] // _MOST_TOGETHER) if route and is_creation else numbered[0]

    for _, run in groupby(enumerate(items), kind):
        yield [item for _, item in run]


def _answer_together(parts: Parts, items: list[Part]) -> bool:
    """Answer operations in one transaction, which saves a commit and a look at the caller's rights for each; or where
    one of them fails do nothing, so that each is answered by itself. Returns: whether they are answered."""
    tried, all_are_done = Parts(parts.call, dict(parts.replies)), False
    try:
        with refusing_lost_rights(), transaction():
            tried.perform_all(items)
            all_are_done = True
    except Exception as error:
        if not all_are_done or _is_undone(error):
            return False
        # The commit was sent, and nobody knows what became of it: done once more, they might be done twice.
        for item in items:
            parts.refuse(item, problem_of(error))
        return True
    parts.replies |= tried.replies
    return True


def _is_undone(error: Exception) -> bool:
    """Whether a commit that failed so has certainly come to nothing."""
    failure = failure_of(error)
    return isinstance(error, Problem) or (failure is not None and failure.repeatable)


def _all_or_none(call: Call, items: list[Part]) -> Parts:
    """Raises: Problem, that of the first operation that fails."""
    parts, all_are_done = Parts(call), False
    try:
        with refusing_lost_rights(), transaction():
            _take_turns(call, items)
            parts.perform_all(items)
            all_are_done = True
    except Exception:
        if all_are_done:
            raise
        # Done one after the other, they tell which of them failed.
        return _all_or_one(call, items)
    return parts


def _all_or_one(call: Call, items: list[Part]) -> Parts:
    """Raises: Problem, that of the first operation that fails, which it names."""
    parts = Parts(call)
    with refusing_lost_rights(), transaction():
        _take_turns(call, items)
        for i, item in enumerate(items):
            try:
                parts.perform(item)
            except Problem as problem:
                raise _located(problem, i, item) from problem
    return parts


def _take_turns(call: Call, items: list[Part]) -> None:
    """Wait for other atomic batches of the same stores, and of the same caller: each holds what it has changed until
    its end, so two that change the same in different orders would wait for each other."""
    stores = {item.path.split("/")[3] for item in items if item.path.startswith("/v1/stores/")}
    owners = {str(found) for name in stores if (found := parse_id(name.partition("?")[0]))}
    if actor := call.access.actor:
        owners.add(str(actor.user_id))
    for owner in sorted(owners):
        take_turns("an atomic batch", owner)


def _located(problem: Problem, place: int, item: Part) -> Problem:
    """An operation's problem as the whole batch's: what is wrong where, as seen from the batch."""
    at = f"#/operations/{place}"
    faults = [
        Fault(fault.code, fault.detail, at + ("/body" + fault.pointer.removeprefix("#") if fault.pointer else "/path"))
        for fault in problem.errors
    ]
    problem.errors = faults or [Fault(problem.code, problem.detail or problem.title, at)]
    problem.detail = f"nothing was done, because the operation {item.id} failed: {problem.detail or problem.title}"
    return problem


class Hold(NamedTuple):
    """For how many seconds the client wants to wait for slow work, and until when (`time.monotonic()`)."""

    seconds: int
    until: float


def _reply(parts: Parts, status: int, hold: Hold) -> Reply:
    """The results as they are now; a client that wants to is held until the first that is not done yet is."""
    results = b",".join(result(item_id, reply) for item_id, reply in parts.replies.items())
    whole = Reply(b'{"results":[%b]}' % results, status, {"Cache-Control": "no-store"})
    left = math.ceil(hold.until - time.monotonic())
    for item_id, reply in parts.replies.items():
        if left > 0 and reply.waiting and reply.waiting.finish:
            finish = partial(_finish, parts, status, hold, item_id)
            whole.waiting = replace(reply.waiting, seconds=left, finish=finish)
            break
    return whole


def _finish(parts: Parts, status: int, hold: Hold, item_id: str) -> Reply:
    """The results once the work of one more operation is done."""
    first = parts.replies[item_id]
    assert first.waiting
    parts.replies[item_id] = finished_reply(first, first.waiting)
    whole = _reply(parts, status, hold)
    whole.headers["Preference-Applied"] = f"wait={hold.seconds}"
    return whole
