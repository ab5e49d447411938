"""How a route is declared.

    routes = Routes("packages")

    @routes.get("/v1/stores/{store_id}/packages", PUBLIC, lists=packages)
    def list_packages(call: Call, store_id: UUID) -> ReadPlan:
        return call.list(packages, {"store_id": store_id})

    @routes.post("/v1/stores/{store_id}/packages", "catalog:write", role="manager", body=NewPackage, returns=packages)
    def create_package(call: Call, store_id: UUID) -> Reply:
        package_id = service.create_package(store_id, call.data)
        return call.created(packages, {"store_id": store_id, "id": package_id})

The declaration is all that runs before the handler (api/serving.py, in the contract's order of refusals: token, scope,
store and ids, role, parameters, Idempotency-Key, body) and all that the OpenAPI document says. A handler of a writing
method runs inside one `transaction()`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from api.auth import PUBLIC, require_binding, require_scope
from api.http import require_match
from api.limits import Allowed, PolicyName
from api.reply import Reply, Waiting
from api.request import Request
from dues.accounts.actor import Actor
from dues.errors import Problem, Unauthenticated
from dues.reads import Query, ReadPlan, Resource, execute, parse_query, plan_list, plan_one, read_later
from dues.reads.resource import Scope
from dues.social.visibility import Viewer
from dues.stores.access import Access, hold

# What a GET reads is planned by its handler and made by whoever serves it; what the handler answers by itself, and
# every write, is a Reply.
Handler = Callable[..., Reply | ReadPlan]
H = TypeVar("H", bound=Handler)
# Does what a request asks for, or gives the answer that it got before: as `once()` of api/idempotency.py.
Once = Callable[[Request, UUID | None, str, bytes, Callable[[], Reply]], Reply]
# Counts so many more requests of a caller under a policy.
CountSeveral = Callable[[PolicyName, Access, int], Allowed]


def count_nothing(policy: PolicyName, access: Access, requests: int) -> Allowed:
    return Allowed(requests)


class Priority(IntEnum):
    """What kind of request it is; the lower goes first and is shed last. HELD: of one that was held until there is
    something new for it."""

    WRITE = 0
    READ = 1
    HELD = 2


@dataclass(frozen=True)
class Route:
    """One method of one path, as declared.

    scope: the token's scope, or PUBLIC. role: the least role in the path's store.
    lists, reads: the resource whose list, or single row, the route answers; returns: what a write answers.
    body: the struct a body must be. idempotency: "no", "optional" or "required" Idempotency-Key.
    find: gets the row that the path names into `call.row`, or raises NotFound; after the role, so that whoever lacks it
    is not told whether the row is there. `shows`: the row is also shown to some who lack the role: it is found first.
    look: raises NotFound like `find`, of a route whose handler finds its row, in the statement that writes: called
    only where the request is refused for something else, so that what is not there is still told first.
    prepare: of a write, what takes long and needs no lock (the hash of a password), worked out before its transaction()
    begins, from the body in `call.data`, and left in `call.prepared`. Where the handler raises Outdated, once more.
    statuses: the successes, first the usual one.
    slow: of a route that hands its work to a job: where the row with this id is read, of the resource it `returns`.
    waits: whether `Prefer: wait` is honoured, as it is on all that is slow. streams: whether it answers events.
    plan_wait: of a route that `waits`: what a client that has seen the present state waits for, without a look at it;
    None where the handler has to look.
    composes: whether it answers by making several requests to other routes (api/composition.py). Its handler opens the
    transactions, and validates the body, which is in `call.data` as it was sent.
    limit: the policy that requests count under; priority: which are shed first under overload.
    unbound: whether a token bound to a store is refused.
    moves_clock: whether it may write to a test store while the store's clock is being moved.
    uploads: the media types of the file that the body must be, with an example of each; it is in `call.data`, decoded
    (api/uploads.py).
    optional_body: whether `body` may be left out. also: a struct that it may answer instead of `returns`.
    bearer_scope, bearer_body: of a PUBLIC route that does something else for a caller with a token: the scope that
    it needs, and the struct its body must be.
    verify: of a PUBLIC route whose caller is known by a signature: checks what was sent, in `call.raw`, before it is
    parsed.
    alone: whether it cannot be one of several requests in one.
    takes_id: of a POST that makes a row: whether the client may choose the row's id, where it is one of several.
    moves_money: whether it charges or pays back, now or as soon as something is done.
    seal: puts a secret into an answer, the first and its replays alike. What the handler answers may be kept with
    its Idempotency-Key; what this makes of it is sent and kept nowhere. `call.seed` is what to make the secret from.
    refused: of a route that is not served here (api/cells/refused.py): what is answered instead.
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
    look: "Callable[[Call], object] | None" = None
    shows: bool = False
    prepare: "Callable[[Call], Any] | None" = None
    statuses: tuple[int, ...] = (200,)
    slow: "Callable[[Call, UUID], Scope] | None" = None
    waits: bool = False
    plan_wait: "Callable[[Call], Waiting | None] | None" = None
    streams: bool = False
    composes: bool = False
    alone: bool = False
    takes_id: bool = False
    moves_money: bool = False
    limit: PolicyName = "default"
    priority: Priority | None = None
    unbound: bool = False
    moves_clock: bool = False
    uploads: Mapping[str, str] = field(default_factory=dict)
    optional_body: bool = False
    also: type[msgspec.Struct] | None = None
    bearer_scope: str = ""
    bearer_body: type[msgspec.Struct] | None = None
    verify: "Callable[[Call], None] | None" = None
    seal: "Callable[[Call, Reply], Reply] | None" = None
    refused: "Callable[[], Problem] | None" = None
    responses: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Sequence[Mapping[str, Any]] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @cached_property
    def flask_rule(self) -> str:
        return re.sub(r"\{(\w+)\}", r"<\1>", self.path)

    @cached_property
    def id_names(self) -> list[str]:
        """Of the ids in its path, in their order."""
        return re.findall(r"\{(\w+)\}", self.path)

    @cached_property
    def order(self) -> Priority:
        """The priority that was declared, else what its method has."""
        if self.priority is not None:
            return self.priority
        return Priority.WRITE if self.writes else Priority.READ

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
    # What a write rests on, where that is another right than `access`.
    right: Access | None = None
    is_held: bool = False
    key: str | None = None
    # Of one of several requests: its key, who looks after it, the id that the client has chosen for the row, and
    # whether the body of its answer can wait until the others are done.
    part_key: str | None = None
    part_once: Once | None = None
    given_id: UUID | None = None
    can_wait: bool = False
    raw: bytes = b""
    seed: bytes = b""
    count_several: CountSeveral = count_nothing

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

    @property
    def only_user(self) -> UUID | None:
        """The user whose rows alone the caller may see in the path's store; None for its staff, who see everybody's."""
        return None if self.access.is_staff else self.actor.user_id

    @property
    def visible(self) -> dict[str, UUID]:
        """The scope of the rows that the caller may see in the path's store."""
        only = {} if self.access.is_staff else {"user_id": self.actor.user_id}
        return {"store_id": self.ids["store_id"], **only}

    def require(self, scope: str, role: str) -> None:
        """Ask for more than the route does, because of what is asked for. Raises: Unauthenticated, Forbidden."""
        require_scope(self.actor, scope)
        require_binding(self.actor, self.ids.get("store_id"))
        self.access.require_role(role)

    def hold(self) -> None:
        """Have what the caller may do hold until the commit, or refuse that. Every write does so at its end; one that
        takes away what may be the caller's own does so before."""
        if not self.is_held:
            self.is_held = True
            hold(self.right or self.access)

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
        if self.can_wait:
            return Reply(None, status, unread=read_later(resource, scope, parse_query(resource, (), one=True)))
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
        reply = self.written(self.route.returns, self.route.slow(self, row_id), 202)
        reply.headers |= {"Location": f"/v1/jobs/{job_id}", "Retry-After": "1"}
        return reply

    def match(self, version: int | None, digest: str | None = None) -> None:
        """Refuse the write when If-Match was sent and names neither this version nor, of a file, its digest. Raises:
        PreconditionFailed."""
        require_match(self.request.header("if-match"), version, digest)


def written(resource: Resource, scope: Scope, status: int) -> Reply:
    """A row as it is written now."""
    answer = execute(plan_one(resource, scope, parse_query(resource, (), one=True)))
    return Reply(answer.body, status, {"ETag": answer.etag})


class Routes:
    """The routes of one module, which dues/slices.py names.

    examples: for the OpenAPI document, values of fields by their names, or by "Schema.name" (api/openapi/examples.py).
    bodies: by the name of a struct, examples of bodies whose fields exclude one another, by what each is.
    """

    def __init__(
        self,
        name: str,
        *,
        examples: Mapping[str, Any] | None = None,
        bodies: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.name, self.examples, self.bodies = name, examples or {}, bodies or {}
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
