"""Several requests in one (a batch, a sync). Each part is a request to a declared route and goes the same way as a
single one (api/serving.py): rights, validation, idempotency, versions, events and cache tags.

A part may use what an earlier part was answered: `{"$ref": "a#/id"}` anywhere in a body, and `$a.id` as a segment of
a path, stand for the `id` in the answer of part `a`. Where the route takes one, a body may say what `id` the row that
it makes is to have, so that a client which is offline can name it at once.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import msgspec
import ujson
from flask import current_app
from werkzeug.exceptions import HTTPException

from api.auth import identify
from api.http import problem_of, problem_reply
from api.idempotency import NewKeys, are_new
from api.limits import PolicyName
from api.reply import Reply
from api.request import Request, make_request, read_target
from api.route_matcher import Ids, RouteMatcher
from api.routing import Call, Once, Route
from api.serving import part
from dues.errors import (
    BadRequest,
    FailedDependency,
    NotFound,
    PayloadTooLarge,
    Problem,
    TooManyRequests,
    ValidationFailed,
)
from dues.failpoints import failpoint
from dues.ids import parse_id
from dues.postgres import in_transaction, unit_of_work
from dues.settings import settings
from dues.stores.access import Access

# References: a segment of a path, and the text of a "$ref" in a body.
_SEGMENT = re.compile(r"\$([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_.]{1,64})")
_POINTER = re.compile(r"([A-Za-z0-9_-]{1,64})#/(.{1,256})", re.DOTALL)
# The header fields that a part's result shows; the others are those of the whole answer.
_SHOWN = ("ETag", "Location", "Retry-After", "Idempotency-Replayed")
# The header fields of the whole that hold for each part.
_INHERITED = ("authorization", "prefer")
# By how much the clock of a client that chooses an id may be ahead: what is sorted by its id would else stay on top.
_MOST_AHEAD_S = 86_400


@dataclass
class Part:
    """One request of several. `body`: None for none. `key`: its Idempotency-Key. `after`: the ids of parts that must
    have succeeded before this one is tried."""

    id: str
    method: str
    path: str
    body: Any = None
    if_version: int | None = None
    key: str | None = None
    after: frozenset[str] = frozenset()

    @property
    def references(self) -> set[str]:
        """The ids of the parts whose answers it uses. Raises: BadRequest for a malformed one."""
        path = self.path.partition("?")[0]
        named = {match[1] for segment in path.split("/") if (match := _SEGMENT.fullmatch(segment))}
        return named | {name for name, _ in _references(self.body)}


@dataclass
class Parts:
    """The parts of one call, and the replies to those that are done. `once` looks after the parts' keys, where another
    than api/idempotency.py does. `named` gives the id of a part as a reference may write it in its normal form."""

    call: Call
    replies: dict[str, Reply] = field(default_factory=dict)
    once: Once | None = None
    named: Callable[[str], str] = str
    _documents: dict[str, Any] = field(default_factory=dict)
    _accesses: dict[UUID | None, Access] = field(default_factory=dict)
    # Those that last until the commit.
    _held: list[Access] = field(default_factory=list)

    def answer(self, item: Part) -> Reply:
        """The reply to a part in a transaction() of its own, whatever happens."""
        try:
            reply = self.perform(item)
        except Exception as error:
            reply = self.refuse(item, problem_of(error))
        self.replies[item.id] = reply
        failpoint(f"part.{len(self.replies)}")
        return reply

    def refuse(self, item: Part, problem: Problem) -> Reply:
        reply = self.replies[item.id] = problem_reply(problem, replace(self.call.request, path=item.path))
        return reply

    def perform_all(self, items: list[Part]) -> None:
        """The replies to parts, in the caller's transaction(), and their keys if they are all new. What each wrote is
        read in its place, but all of it fetched in one message. Raises: Problem, and whatever else makes a request
        fail, for one of the parts or another."""
        keys = NewKeys()
        can_wait = not any(item.key for item in items) or self._have_new_keys(items)
        if can_wait:
            self.once = keys.once
        for item in items:
            self.perform(item, can_wait=can_wait)
        for item in items:
            self.replies[item.id].read()
        keys.keep_all()

    def _have_new_keys(self, items: list[Part]) -> bool:
        """Whether all of the parts have keys that were not used before: asked in one message."""
        requests = [(item.method, read_target(item.path)[0], item.key) for item in items if item.key]
        if len(requests) < len(items) or any("$" in path for _, path, _ in requests):
            return False
        routes, actor = [route_of(self.call, item) for item in items], self.call.access.actor
        # The keys of answers that hold a secret are a token's, and not a user's.
        if actor is None or any(route is None or route.seal for route in routes):
            return False
        return are_new(actor.user_id, requests)

    def perform(self, item: Part, *, can_wait: bool = False) -> Reply:
        """The reply to a part, as part of the caller's transaction() where there is one; where its body `can_wait`, one
        to `read()` before the commit. Raises: Problem, and whatever else makes a request fail."""
        for name in sorted(item.after):
            self._require(name)
        path, mark, query = item.path.partition("?")
        target = "/".join(self._resolve_segment(segment) for segment in path.split("/")) + mark + query
        request = self._request(item, target)
        route, ids = find(request)
        document, given_id = _given_id(route, self._resolve(item.body, Budget()))
        body = b"" if document is None else msgspec.json.encode(document)
        joins = in_transaction()
        if joins and route.prepare:
            raise BadRequest(f"{route} cannot be part of what is all or nothing", code="not_composable")
        access = self._access(request, route, ids)
        is_held = any(access is held for held in self._held)
        reply = part(
            route,
            ids,
            request,
            body,
            access,
            key=item.key,
            once=self.once,
            given_id=given_id,
            joins=joins,
            is_held=is_held,
            can_wait=can_wait,
        )
        if joins:
            if route.writes:
                self._held.append(access)
            self._look_for_changed_rights()
        self.replies[item.id] = reply
        return reply

    def _request(self, item: Part, target: str) -> Request:
        whole = self.call.request
        kept = {name: value for name in _INHERITED if (value := whole.header(name)) is not None}
        fields = kept | {"content-type": "application/json", "x-request-id": whole.id}
        if item.if_version is not None:
            fields["if-match"] = f'"{item.if_version}"'
        return make_request(item.method, target, fields, whole.address)

    def _access(self, request: Request, route: Route, ids: Ids) -> Access:
        """What the caller may do now. In a transaction() it is looked up once for each store: there, nothing but an
        earlier part can change it."""
        store_id = ids.get("store_id")
        if not in_transaction():
            return identify(request, route.scope, store_id)
        if store_id not in self._accesses:
            self._accesses[store_id] = identify(request, route.scope, store_id)
        return self._accesses[store_id]

    def _look_for_changed_rights(self) -> None:
        """Forget what the caller may do where a part has changed a store, its staff or a token."""
        if any(tag.startswith(("store:", "token:")) and tag.count(":") == 1 for tag in unit_of_work().tags):
            self._accesses.clear()

    def _require(self, name: str) -> Any:
        """The document in the answer of another part. Raises: FailedDependency."""
        name = self.named(name)
        reply = self.replies.get(name)
        if reply is None or reply.status >= 300:
            raise FailedDependency(f"{name} has not succeeded")
        reply.read()
        if name not in self._documents:
            self._documents[name] = ujson.loads(reply.body) if reply.body else None
        return self._documents[name]

    def _resolve_segment(self, segment: str) -> str:
        if not (found := _SEGMENT.fullmatch(segment)):
            return segment
        value = self._look_up(found[1], found[2].split("."))
        # Nothing but an id: another text could make the path that of another route, with other limits.
        if not isinstance(value, str) or parse_id(value) is None:
            raise FailedDependency(f"{found[2]} of {found[1]} is no id, and cannot be part of a path")
        return value

    def _resolve(self, value: Any, budget: "Budget") -> Any:
        """A body with each reference replaced by what it stands for."""
        if isinstance(value, list):
            return [self._resolve(item, budget) for item in value]
        if not isinstance(value, dict):
            return value
        if reference := _reference(value):
            name, pointer = reference
            steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")]
            return budget.spend(self._look_up(name, steps))
        return {key: self._resolve(below, budget) for key, below in value.items()}

    def _look_up(self, name: str, steps: list[str]) -> Any:
        value = self._require(name)
        for step in steps:
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                raise FailedDependency(f"the answer of {name} has no {'/'.join(steps)}")
        return value


class Budget:
    """How many characters more references may put into a part's body: a short one could else stand for the longest
    answer thousands of times over."""

    def __init__(self) -> None:
        self._left = settings().max_body_bytes

    def spend(self, value: Any) -> Any:
        """The value. Raises: FailedDependency for one that is no single value; PayloadTooLarge."""
        if isinstance(value, dict | list):
            raise FailedDependency("a reference stands for a single value, and not for an object or a list")
        self._left -= len(str(value))
        if self._left < 0:
            raise PayloadTooLarge(f"a body may have at most {settings().max_body_bytes} bytes")
        return value


def find(request: Request) -> tuple[Route, Ids]:
    """The route of a part. Raises: NotFound; BadRequest for one that cannot be a part."""
    matcher: RouteMatcher = current_app.extensions["route_matcher"]
    found = matcher.find(request)
    if found is None:
        raise _missing(request)
    route, _ = found
    # Its answer becomes a member of another: what declares none but 204 has none, and pages and files declare nothing.
    is_json = route.lists or route.reads or route.returns or route.statuses == (204,)
    unfit = route.composes or route.alone or route.streams or route.uploads
    if unfit or route.limit == "login" or not is_json:
        raise BadRequest(f"{route} cannot be part of another request", code="not_composable")
    return found


def _given_id(route: Route, document: Any) -> tuple[Any, UUID | None]:
    """A body without the id that its client has chosen for the row that it makes, and that id. Raises:
    ValidationFailed."""
    if not route.takes_id or not isinstance(document, dict) or "id" not in document:
        return document, None
    text = document["id"]
    given = parse_id(text) if isinstance(text, str) else None
    if given is None or given.version != 7:
        raise ValidationFailed.of("#/id", "is not a UUID of version 7")
    if (given.int >> 80) / 1000 > time.time() + _MOST_AHEAD_S:
        raise ValidationFailed.of("#/id", "is of a time that is yet to come", code="range")
    return {name: value for name, value in document.items() if name != "id"}, given


def _missing(request: Request) -> Problem:
    """What a single request to a path that is no route's is told."""
    if request.path:
        try:
            current_app.url_map.bind("").match(request.path, method=request.method)
        except HTTPException as error:
            return problem_of(error)
    return NotFound("there is no such resource")


def beyond_limits(call: Call, parts: list[Part]) -> dict[str, Problem]:
    """Count each part as a request; the whole has been counted as one of them. Returns: the refusals of those that are
    beyond a limit, by their ids: the last ones of each policy."""
    policies: dict[PolicyName, list[str]] = {}
    for item in parts:
        policies.setdefault(_policy(call, item), []).append(item.id)
    refused: dict[str, Problem] = {}
    for policy, ids in policies.items():
        counted = 1 if policy == call.route.limit else 0
        if len(ids) > counted:
            allowed = call.count_several(policy, call.access, len(ids) - counted)
            problem = TooManyRequests("this is beyond the rate limit", headers={"Retry-After": str(allowed.ends_in_s)})
            refused |= dict.fromkeys(ids[counted + allowed.requests :], problem)
    return refused


def _policy(call: Call, item: Part) -> PolicyName:
    """The policy that a part counts under."""
    route = route_of(call, item)
    return route.limit if route else "default"


def route_of(call: Call, item: Part) -> Route | None:
    """The route of a part, if it has one. Which id a reference stands for makes no difference to that."""
    path = re.sub(r"\$[^/?]+", str(UUID(int=0)), item.path)
    try:
        return find(replace(call.request, method=item.method, path=read_target(path)[0]))[0]
    except Problem:
        return None


def result(item_id: str, reply: Reply) -> bytes:
    """A part's reply as JSON."""
    headers = {name: reply.headers[name] for name in _SHOWN if name in reply.headers}
    head = ujson.dumps({"id": item_id, "status": reply.status, "headers": headers}, escape_forward_slashes=False)
    return b'%b,"body":%b}' % (head[:-1].encode(), reply.body or b"null")


def _reference(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """The part's id and the pointer of `{"$ref": "a#/id"}`. Raises: BadRequest for one that is spelt otherwise."""
    if value.keys() != {"$ref"}:
        return None
    found = _POINTER.fullmatch(value["$ref"]) if isinstance(value["$ref"], str) else None
    if found is None:
        raise BadRequest('a reference is {"$ref": "id#/member"}', code="invalid_reference")
    return found[1], found[2]


def _references(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, dict):
        if reference := _reference(value):
            yield reference
        else:
            for item in value.values():
                yield from _references(item)
