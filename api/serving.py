"""All that lies between a request to a declared route and its reply, once, whoever serves it.

`answer()` runs a request on a thread: token, limit, scope, store and ids, role, parameters, then the read or the write.
`plan_read()` is the part of it that needs no thread, for a server that makes reads by itself. A server goes on with
`conditional()` (api/http.py) and the answer's own header fields (api/telemetry.py).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from uuid import UUID

import ujson

from api.auth import admit, identify
from api.body import parse_json, read_body
from api.compress import encode
from api.http import problem_of, problem_reply, reply_of
from api.idempotency import idempotency_key, once, secret_seed
from api.long_poll import wanted_wait
from api.reply import Reply, Waiting
from api.request import Request, parameters_of
from api.routing import Call, CountSeveral, Once, Route, count_nothing, written
from api.telemetry import trace_of
from api.uploads import Upload, check_upload
from dues.errors import Fault, InvalidParameter, NotFound, Outdated, Problem, Unavailable
from dues.failpoints import failpoint
from dues.jobs.status import jobs
from dues.observability.logs import log_fields
from dues.observability.trace import tracing
from dues.postgres import repeated, transaction
from dues.postgres.statement_stats import counting_statements
from dues.reads import ReadPlan, Resource, execute, parse_query
from dues.reads.resource import Scope
from dues.stores.access import Access, refusing_lost_rights
from dues.stores.clock import require_still
from dues.validation import validate

_MOST_TRIES = 3

# The ids of a path, each None where what stands in its place is no id.
Ids = Mapping[str, UUID | None]


def answer(
    route: Route,
    ids: Ids,
    request: Request,
    body: bytes | Upload = b"",
    *,
    known: Access | None = None,
    count: Callable[[Access], object] = lambda access: None,
    count_several: CountSeveral = count_nothing,
) -> Reply:
    """The reply to a request, whatever happens. In an application context.

    body: as it was sent, cut one byte past the most that a body may have; for a route that `uploads`, the file.
    known: what the caller may do, where that has
    just been checked to hold; else it is found out, and `count` called with it, which may refuse. count_several: for a
    route that makes several requests of one.
    """
    access = known
    fields, trace = log_fields(request_id=request.id), tracing(trace_of(request))
    with fields, trace, counting_statements() as statements:
        try:
            if access is None or access.store_id != ids.get("store_id"):
                access = identify(request, route.scope, ids.get("store_id"))
                count(access)
            call = _admitted(route, ids, request, access)
            call.count_several = count_several
            reply = _write(call, body) if route.writes else _read(call)
        except Exception as error:
            reply = problem_reply(problem_of(error), request)
    if reply.waiting is None:
        encode(request, reply)
    reply.access, reply.queries, reply.db_s = access, statements.count, statements.seconds
    return reply


def admit_upload(route: Route, ids: Ids, request: Request, count: Callable[[Access], object]) -> Access:
    """All that can be refused of a file before it comes. Returns: what the caller may do. Raises: Problem."""
    access = identify(request, route.scope, ids.get("store_id"))
    count(access)
    call = _admitted(route, ids, request, access)
    if route.role:
        access.require_role(route.role)
    _parse_parameters(call)
    check_upload(route, request)
    return access


def part(
    route: Route,
    ids: Ids,
    request: Request,
    body: bytes,
    access: Access,
    *,
    key: str | None,
    once: Once | None = None,
    given_id: UUID | None = None,
    joins: bool = False,
    is_held: bool = False,
    can_wait: bool = False,
) -> Reply:
    """The reply to one of the requests of a route that `composes`. A write has a transaction() of its own, or where it
    `joins` is part of the caller's, in which `access` may be held already. `key` is its Idempotency-Key, whatever its
    method; `once` looks after keys in place of api/idempotency.py. `given_id` is the id that its row is to have. Where
    its body `can_wait`, the reply may be one to `read()` before the commit.

    Raises: Problem, and whatever else makes a request fail.
    """
    call = _admitted(route, ids, request, access)
    if not route.writes:
        return _read(call)
    call.part_key, call.part_once, call.given_id, call.is_held = key, once, given_id, is_held
    # A secret is put into the body, and of slow work the id is taken out of it, before this returns.
    call.can_wait = can_wait and not route.seal and not (route.slow and wanted_wait(request))
    return _write(call, body, joins=joins)


def plan_read(route: Route, ids: Ids, request: Request, access: Access) -> ReadPlan | Waiting | None:
    """What a GET asks for, where no handler has to look at anything first. In an application context.

    Raises: Problem, for whatever `answer()` would refuse.
    """
    call = _admitted(route, ids, request, access)
    if route.role:
        access.require_role(route.role)
    _parse_parameters(call)
    if route.plan_wait:
        return route.plan_wait(call)
    # What is no declared read is the handler's own work, which may take a while.
    if route.waits or route.streams or not (route.lists or route.reads or isinstance(route.returns, Resource)):
        return None
    plan = route.handler(call, **call.ids)
    return None if isinstance(plan, Reply) else plan


def _admitted(route: Route, ids: Ids, request: Request, access: Access) -> Call:
    """Raises: Unauthenticated, Forbidden, NotFound."""
    if route.refused:
        raise route.refused()
    # A public route may do something else for a caller with a token, which then needs a scope.
    scope = route.bearer_scope if route.bearer_scope and access.actor else route.scope
    admit(access, scope, ids, unbound=route.unbound)
    return Call(route, {name: value for name, value in ids.items() if value}, access, request)


def _read(call: Call) -> Reply:
    route = call.route
    if route.role:
        call.access.require_role(route.role)
    try:
        _parse_parameters(call)
    except Problem:
        # A row that the caller may not know of is 404 whatever else is wrong with the request.
        resource = route.reads or route.lists
        if resource and (route.reads or resource.within):
            call.query = parse_query(resource, (), one=route.lists is None)
            _handle_read(call)
        raise
    return _handle_read(call)


def _handle_read(call: Call) -> Reply:
    found = call.route.handler(call, **call.ids)
    return found if isinstance(found, Reply) else reply_of(execute(found), call.access)


def _parse_parameters(call: Call) -> None:
    args = parameters_of(call.request.query)
    resource = call.route.lists or call.route.reads
    if resource:
        call.query = parse_query(resource, args, one=call.route.lists is None)
        return
    known = {parameter["name"]: parameter for parameter in call.route.parameters if parameter["in"] == "query"}
    faults = [
        Fault(code="unknown", detail="is not a parameter", parameter=name) for name, _ in args if name not in known
    ]
    for name, parameter in known.items():
        if parameter.get("required"):
            values, choices = [value for sent, value in args if sent == name], parameter["schema"].get("enum")
            if len(values) != 1 or (choices and values[0] not in choices):
                detail = "is required, and " + (f"one of {', '.join(choices)}" if choices else "may be there once")
                faults.append(Fault(code="required", detail=detail, parameter=name))
    if faults:
        raise InvalidParameter.of_faults(faults)


def _write(call: Call, sent: bytes | Upload, *, joins: bool = False) -> Reply:
    route = call.route
    if route.composes:
        return _compose(call, sent)
    if route.prepare:
        _receive(call, sent)
    if joins:
        reply = _work(call, sent)
    else:
        reply = repeated(partial(_commit, call, sent))
        failpoint("web.after_commit")
    if route.slow:
        reply.waiting = _wait_until_done(call, reply)
    return route.seal(call, reply) if route.seal else reply


def _compose(call: Call, sent: bytes | Upload) -> Reply:
    _receive(call, sent)
    reply = call.route.handler(call)
    assert isinstance(reply, Reply), "a write answers by itself"
    return reply


def _commit(call: Call, sent: bytes | Upload) -> Reply:
    """Raises: Unavailable where others changed three times in a row what was prepared."""
    for _ in range(_MOST_TRIES):
        if call.route.prepare:
            call.prepared = call.route.prepare(call)
        call.is_held = False
        with suppress(Outdated), refusing_lost_rights(), transaction():
            return _work(call, sent)
    raise Unavailable("other requests keep changing this resource: send the request again")


def _work(call: Call, sent: bytes | Upload) -> Reply:
    """What a write does inside transaction()."""
    try:
        _find_row(call)
    except NotFound as missing:
        if call.part_key is None:
            raise
        assert isinstance(sent, bytes)
        return _replay(call, sent, missing)
    if not call.route.prepare:
        try:
            _receive(call, sent)
        except Problem:
            if call.route.look:
                call.route.look(call)
            raise
    reply = _perform(call, partial(_handle, call))
    call.hold()
    failpoint("web.before_commit")
    return reply


def _replay(call: Call, sent: bytes, missing: NotFound) -> Reply:
    """What a part was answered before: its row may be missing because it has deleted it itself. Raises: NotFound."""

    def refuse() -> Reply:
        raise missing

    call.key = call.part_key
    call.raw = parse_json(call.request, sent)[1] if sent else b""
    return _perform(call, refuse)


def _find_row(call: Call) -> None:
    route = call.route
    if route.role and not route.shows:
        call.access.require_role(route.role)
    if route.find:
        call.row = route.find(call)
    if route.role:
        call.access.require_role(route.role)


def _receive(call: Call, sent: bytes | Upload) -> None:
    """What was sent: parameters, Idempotency-Key, body."""
    route = call.route
    _parse_parameters(call)
    if call.part_key:
        call.key = call.part_key
    elif route.idempotency != "no":
        call.key = idempotency_key(call.request, required=route.idempotency == "required")
    if isinstance(sent, Upload):
        check_upload(route, call.request)
        call.data, call.raw = sent.decoded(call.request)
        return
    call.raw = read_body(call.request, sent)
    if route.verify:
        route.verify(call)
    struct = route.bearer_body if route.bearer_body and call.access.actor else route.body
    if struct and (call.raw or not route.optional_body):
        document, call.raw = parse_json(call.request, call.raw)
        call.data = document if route.composes else validate(document, struct)
    if route.seal:
        call.seed = secret_seed(call.request, call.key, call.raw)


def _perform(call: Call, handle: Callable[[], Reply]) -> Reply:
    if call.key is None:
        return handle()
    # Answers that hold a secret are given again only to the very token that asked.
    actor = call.access.actor
    caller = None if actor is None else actor.token_id if call.route.seal else actor.user_id
    return (call.part_once or once)(call.request, caller, call.key, call.raw, handle)


def _handle(call: Call) -> Reply:
    if call.access.is_test_store and not call.route.moves_clock:
        require_still(call.ids["store_id"])
    reply = call.route.handler(call, **call.ids)
    assert isinstance(reply, Reply), "a write answers by itself"
    return reply


def _wait_until_done(call: Call, reply: Reply) -> Waiting | None:
    """What a client that prefers it waits for until the job of a 202, new or given again, is done."""
    route, seconds = call.route, wanted_wait(call.request)
    if not seconds or reply.status != 202:
        return None
    assert route.slow
    assert isinstance(route.returns, Resource)
    job_id = UUID(reply.headers["Location"].rpartition("/")[2])
    scope = route.slow(call, UUID(ujson.loads(reply.body or b"")["id"]))
    finish = partial(_finished, route.returns, scope)
    return Waiting(job_id, 0, call.actor.token_id, parse_query(jobs, (), one=True), seconds, finish)


def _finished(resource: Resource, scope: Scope) -> Reply:
    """What a 202 has led to."""
    reply = written(resource, scope, 201)
    reply.headers["Location"] = ujson.loads(reply.body or b"")["links"]["self"]
    return reply
