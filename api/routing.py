"""How a route is declared, and what happens around every one.

    routes = Routes("packages")

    @routes.get("/v1/stores/{store_id}/packages", PUBLIC, lists=packages)
    def list_packages(call: Call, store_id: UUID) -> Reply:
        return call.list(packages, {"store_id": store_id})

    @routes.post("/v1/stores/{store_id}/packages", "catalog:write", role="manager", body=NewPackage, returns=packages)
    def create_package(call: Call, store_id: UUID) -> Reply:
        package = service.create_package(store_id, call.body)
        return call.created(packages, {"store_id": store_id, "id": package.id})

The declaration is all that runs before the handler (in the contract's order of refusals: token, scope, store and
ids, role, parameters, Idempotency-Key, body) and all that the OpenAPI document says. A handler of a writing method
runs inside one `transaction()`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import ujson
from flask import Flask

from api.auth import PUBLIC, admit, authorize, bearer_token, require_binding, require_scope
from api.body import parse_json, read_body
from api.http import Reply, conditional, require_match
from api.idempotency import idempotency_key, once, secret_seed
from api.long_poll import Waiting, leave, wanted_wait
from api.request import Request, flask_request, query_parameters
from api.validation import validate
from dues.accounts.actor import Actor
from dues.errors import Fault, InvalidParameter, Outdated, Problem, Unauthenticated, Unavailable
from dues.failpoints import failpoint
from dues.ids import parse_id
from dues.jobs.status import jobs
from dues.postgres import repeated, transaction
from dues.reads import Query, ReadPlan, Resource, execute, parse_query, plan_list, plan_one
from dues.reads.resource import Scope
from dues.social.visibility import Viewer
from dues.stores.access import Access
from dues.stores.clock import require_still

# What a GET reads is made by whoever serves it; what it answers by itself, and every write, is a Reply.
Handler = Callable[..., Reply | ReadPlan]
H = TypeVar("H", bound=Handler)

_MOST_TRIES = 3


@dataclass(frozen=True)
class Route:
    """One method of one path, as declared.

    scope: the token's scope, or PUBLIC. role: the least role in the path's store.
    lists, reads: the resource whose list, or single row, the route answers; returns: what a write answers.
    body: the struct a body must be. idempotency: "no", "optional" or "required" Idempotency-Key.
    find: gets the row that the path names into `call.row`, or raises NotFound; after the role, so that whoever lacks it
    is not told whether the row is there. `shows`: the row is also shown to some who lack the role: it is found first.
    prepare: of a write, what takes long and needs no lock (the hash of a password), worked out before its transaction()
    begins, from the body in `call.data`, and left in `call.prepared`. Where the handler raises Outdated, once more.
    statuses: the successes, first the usual one. unbound: whether a token bound to a store is refused.
    slow: of a route that hands its work to a job: where the row with this id is read, of the resource it `returns`.
    waits: whether `Prefer: wait` is honoured, as it is on all that is slow. streams: whether it answers events.
    moves_clock: whether it may write to a test store whose clock moves. optional_body: whether `body` may be left out.
    also: a struct that it may answer instead of `returns`.
    bearer_scope, bearer_body: of a PUBLIC route that does something else for who sends a token: the scope that it
    needs, and the struct its body must be.
    seal: puts a secret into an answer, the first and its replays alike. What the handler answers may be kept with
    its Idempotency-Key; what this makes of it is sent and kept nowhere. `call.seed` is what to make the secret from.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    role: str | None = None
    lists: Resource | None = None
    reads: Resource | None = None
    returns: Resource | type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    idempotency: str = "no"
    find: "Callable[[Call], Any] | None" = None
    shows: bool = False
    prepare: "Callable[[Call], Any] | None" = None
    statuses: tuple[int, ...] = (200,)
    slow: "Callable[[Call, UUID], Scope] | None" = None
    waits: bool = False
    streams: bool = False
    unbound: bool = False
    moves_clock: bool = False
    optional_body: bool = False
    also: type[msgspec.Struct] | None = None
    bearer_scope: str = ""
    bearer_body: type[msgspec.Struct] | None = None
    seal: "Callable[[Call, Reply], Reply] | None" = None
    responses: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Sequence[Mapping[str, Any]] = ()

    @cached_property
    def flask_rule(self) -> str:
        return re.sub(r"\{(\w+)\}", r"<\1>", self.path)

    @cached_property
    def id_names(self) -> list[str]:
        """Of the ids in its path, in their order."""
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def bodies(self) -> list[type[msgspec.Struct]]:
        """The structs that a body may have to be: that of a caller without a token first, where they differ."""
        return [struct for struct in (self.body, self.bearer_body) if struct]

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")


@dataclass
class Call:
    """One request to a route, as its handler sees it."""

    route: Route
    ids: dict[str, UUID]
    access: Access
    request: Request
    row: Any = None
    query: Query | None = None
    data: Any = None
    prepared: Any = None
    key: str | None = None
    raw: bytes = b""
    seed: bytes = b""

    @property
    def actor(self) -> Actor:
        """Who is calling. Raises: Unauthenticated where no token was sent."""
        if self.access.actor is None:
            raise Unauthenticated("this needs an Authorization header: Bearer <token>")
        return self.access.actor

    @property
    def viewer(self) -> Viewer:
        """As whom the caller sees posts. A token without the scope sees what everybody sees."""
        actor, scope = self.access.actor, self.route.scope
        if actor is None or ("social:read" if scope == PUBLIC else scope) not in actor.scopes:
            return Viewer()
        return Viewer(actor.user_id, actor.store_id)

    def require(self, scope: str, role: str) -> None:
        """Ask for more than the route does, because of what is asked for. Raises: Unauthenticated, Forbidden."""
        require_scope(self.actor, scope)
        require_binding(self.actor, self.ids.get("store_id"))
        self.access.require_role(role)

    def list(self, resource: Resource, scope: Scope) -> ReadPlan:
        """The page of `scope`'s rows that the request asks for."""
        assert self.query
        return plan_list(resource, scope, self.query, self.request.path, self.request.query)

    def one(self, resource: Resource, scope: Scope) -> ReadPlan:
        """The single row that `scope` names."""
        assert self.query
        return plan_one(resource, scope, self.query, self.request.query)

    def written(self, resource: Resource, scope: Scope, status: int = 200) -> Reply:
        """A row that this request has just written, as a GET would answer it."""
        return written(resource, scope, status)

    def created(self, resource: Resource, scope: Scope) -> Reply:
        """A row made by a POST to its list; Location is its `id` below the list."""
        reply = self.written(resource, scope, 201)
        reply.headers["Location"] = f"{self.request.path}/{scope['id']}"
        return reply

    def accepted(self, row_id: UUID, job_id: UUID) -> Reply:
        """The row whose slow work has been handed to a job: the client polls `Location`."""
        assert self.route.slow
        assert isinstance(self.route.returns, Resource)
        reply = written(self.route.returns, self.route.slow(self, row_id), 202)
        reply.headers |= {"Location": f"/v1/jobs/{job_id}", "Retry-After": "1"}
        return reply

    def match(self, version: int) -> None:
        """Refuse the write when If-Match was sent and names another version. Raises: PreconditionFailed."""
        require_match(self.request.header("if-match"), version)


def written(resource: Resource, scope: Scope, status: int) -> Reply:
    """A row as it is written now."""
    answer = execute(plan_one(resource, scope, parse_query(resource, (), one=True)))
    return Reply(answer.body, status, {"ETag": answer.etag})


class Routes:
    """The routes of one module; `api/app.py` lists the modules."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.all: list[Route] = []

    def route(self, method: str, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        def add(handler: H) -> H:
            self.all.append(Route(method, path, handler, scope, **declared))
            return handler

        return add

    def get(self, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        return self.route("GET", path, scope, **declared)

    def post(self, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        return self.route("POST", path, scope, **{"idempotency": "optional", "statuses": (201,), **declared})

    def put(self, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        return self.route("PUT", path, scope, **declared)

    def patch(self, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        return self.route("PATCH", path, scope, **declared)

    def delete(self, path: str, scope: str, **declared: Any) -> Callable[[H], H]:
        return self.route("DELETE", path, scope, **{"statuses": (204,), **declared})

    def install(self, app: Flask) -> None:
        for route in self.all:
            app.add_url_rule(
                route.flask_rule,
                endpoint=f"{self.name}.{route.handler.__name__}",
                view_func=_view(route),
                methods=[route.method],
            )


def _view(route: Route) -> Callable[..., Any]:
    def view(**texts: str) -> Any:
        # An id that is no UUID stays None: it is refused as not found, but only after the token and the scope.
        ids = {name: parse_id(text) for name, text in texts.items()}
        sent = flask_request()
        scope = route.bearer_scope if route.bearer_scope and bearer_token(sent) else route.scope
        access = authorize(sent, scope, ids, unbound=route.unbound)
        call = Call(route, {name: value for name, value in ids.items() if value}, access, sent)
        return (_write(call) if route.writes else _read(call)).response()

    view.__name__ = route.handler.__name__
    return view


def plan_read(route: Route, ids: dict[str, UUID], access: Access, sent: Request) -> "ReadPlan | None":
    """What a GET asks for, by whom who may do what `access` says; None where its handler reads by itself. For a server
    that makes readings without Flask, in an application context. Raises: Problem, for whatever Flask would refuse."""
    admit(access, route.scope, ids, unbound=route.unbound)
    if route.role:
        access.require_role(route.role)
    call = Call(route, ids, access, sent)
    _parse_parameters(call)
    reading = route.handler(call, **ids)
    return None if isinstance(reading, Reply) else reading


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
            _answer(call)
        raise
    return _answer(call)


def _answer(call: Call) -> Reply:
    found = call.route.handler(call, **call.ids)
    return found if isinstance(found, Reply) else conditional(execute(found), call.access)


def _parse_parameters(call: Call) -> None:
    args = query_parameters(call.request.query)
    resource = call.route.lists or call.route.reads
    if resource:
        call.query = parse_query(resource, args, one=call.route.lists is None)
        return
    known = {parameter["name"] for parameter in call.route.parameters if parameter["in"] == "query"}
    faults = [
        Fault(code="unknown", detail="is not a parameter", parameter=name) for name, _ in args if name not in known
    ]
    if faults:
        raise InvalidParameter.of_faults(faults)


def write(route: Route, ids: dict[str, UUID], access: Access, sent: Request) -> Reply:
    """What a writing route answers to whom may do what `access` says, once it is committed. For a server that needs no
    Flask for it, in an application context. Raises: Problem, for whatever Flask would refuse."""
    admit(access, route.scope, ids, unbound=route.unbound)
    return _write(Call(route, ids, access, sent))


def _write(call: Call) -> Reply:
    route = call.route
    if route.prepare:
        _receive(call)
    reply = repeated(partial(_commit, call))
    failpoint("web.after_commit")
    if route.slow:
        _wait_until_done(call, reply)
    return route.seal(call, reply) if route.seal else reply


def _commit(call: Call) -> Reply:
    """Raises: Unavailable where others changed three times in a row what was prepared."""
    for _ in range(_MOST_TRIES):
        if call.route.prepare:
            call.prepared = call.route.prepare(call)
        with suppress(Outdated), transaction():
            _find_row(call)
            if not call.route.prepare:
                _receive(call)
            reply = _perform(call)
            failpoint("web.before_commit")
            return reply
    raise Unavailable("others keep changing this")


def _find_row(call: Call) -> None:
    route = call.route
    if route.role and not route.shows:
        call.access.require_role(route.role)
    if route.find:
        call.row = route.find(call)
    if route.role:
        call.access.require_role(route.role)


def _receive(call: Call) -> None:
    """What was sent: parameters, Idempotency-Key, body."""
    route = call.route
    _parse_parameters(call)
    if route.idempotency != "no":
        call.key = idempotency_key(call.request, required=route.idempotency == "required")
    call.raw = read_body(call.request)
    struct = route.bearer_body if route.bearer_body and call.access.actor else route.body
    if struct and (call.raw or not route.optional_body):
        document, call.raw = parse_json(call.request, call.raw)
        call.data = validate(document, struct)
    if route.seal:
        call.seed = secret_seed(call.request, call.key, call.raw)


def _perform(call: Call) -> Reply:
    if call.key is None:
        return _handle(call)
    # Answers that hold a secret are given again only to the very token that asked.
    actor = call.access.actor
    caller = None if actor is None else actor.token_id if call.route.seal else actor.user_id
    return once(call.request, caller, call.key, call.raw, partial(_handle, call))


def _wait_until_done(call: Call, reply: Reply) -> None:
    """Where the client prefers it, have it held until the job of a 202, new or given again, is done."""
    route, seconds = call.route, wanted_wait(call.request)
    if not seconds or reply.status != 202:
        return
    assert route.slow
    assert isinstance(route.returns, Resource)
    job_id = UUID(reply.headers["Location"].rpartition("/")[2])
    scope = route.slow(call, UUID(ujson.loads(reply.body or b"")["id"]))
    finish = partial(_finished, route.returns, scope)
    leave(call.request, Waiting(job_id, 0, call.actor.token_id, parse_query(jobs, (), one=True), seconds, finish))


def _finished(resource: Resource, scope: Scope) -> Reply:
    """What a 202 has led to."""
    reply = written(resource, scope, 201)
    reply.headers["Location"] = ujson.loads(reply.body or b"")["links"]["self"]
    return reply


def _handle(call: Call) -> Reply:
    if call.access.is_test_store and not call.route.moves_clock:
        require_still(call.ids["store_id"])
    reply = call.route.handler(call, **call.ids)
    assert isinstance(reply, Reply), "a write answers by itself"
    return reply
