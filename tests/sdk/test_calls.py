"""One call of the client: what is sent, when it is sent again, and what is raised. No server: a transport of ours."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2 as httpx
import pytest
from dues_client import AsyncDues, Dues, _exchange, errors
from dues_client.errors import ApiError, ConnectFailed, DuesError, NetworkError

PACKAGE = {"id": "p", "name": "Day", "amount": 1500, "currency": "EUR", "version": 3}
Step = "int | Exception | tuple[int, dict[str, str], dict[str, Any]]"


class Script:
    """A transport that answers with one step after the other, and remembers the requests."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        status, headers, document = step if isinstance(step, tuple) else (step, {}, {})
        if status < 300:
            return httpx.Response(status, json=document or PACKAGE, headers=headers)
        problem = {"code": f"code_{status}", "detail": "no", "status": status, **document}
        return httpx.Response(status, json=problem, headers=headers)

    def client(self, **options: Any) -> Dues:
        return Dues("dues_x", url="http://dues.test", transport=httpx.MockTransport(self), **options)


@pytest.fixture(autouse=True)
def _no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exchange, "_FIRST_DELAY_S", 0.0)


LOST, UNREACHED = httpx.ReadError("reset"), httpx.ConnectError("refused")
BUSY = (409, {"retry-after": "0"}, {"code": "idempotency_key_in_use"})


def create(dues: Dues, **options: Any) -> Any:
    return dues.packages.create("s", name="Day", amount=1500, interval="once", **options)


def change(dues: Dues, **options: Any) -> Any:
    return dues.packages.change("s", "p", name="Night", **options)


def read(dues: Dues) -> Any:
    return dues.packages.get("s", "p")


def remove(dues: Dues, **options: Any) -> Any:
    return dues.posts.delete("p", **options)


def bound(call: Callable[..., Any]) -> Callable[[Dues], Any]:
    return lambda dues: call(dues, if_version=3)


@pytest.mark.parametrize("step", [LOST, UNREACHED, BUSY, 429, 502, 503, 504], ids=str)
@pytest.mark.parametrize("call", [create, change, read])
def test_what_may_be_tried_again_is(call: Callable[[Dues], Any], step: Any) -> None:
    script = Script(step, step, 200)
    assert call(script.client()).name == "Day"
    assert len(script.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 422, 500])
@pytest.mark.parametrize("call", [create, change, read])
def test_a_refusal_is_not_tried_again(call: Callable[[Dues], Any], status: int) -> None:
    script = Script(status)
    with pytest.raises(ApiError) as raised:
        call(script.client())
    assert (raised.value.status, raised.value.code, len(script.requests)) == (status, f"code_{status}", 1)


@pytest.mark.parametrize("call", [bound(change), bound(remove)])
def test_what_is_bound_to_a_version_is_not_sent_twice(call: Callable[[Dues], Any]) -> None:
    """Its first attempt may have moved the version on: a second would be told that it was outdated."""
    script = Script(LOST)
    with pytest.raises(NetworkError):
        call(script.client())
    script = Script(UNREACHED, 200)
    call(script.client())
    assert {request.headers["if-match"] for request in script.requests} == {'"3"'}


def test_a_deletion_whose_answer_was_lost_is_done() -> None:
    script = Script(LOST, 404)
    assert remove(script.client()) is None
    with pytest.raises(errors.NotFound):
        remove(Script(404).client())


def test_one_key_is_kept_over_all_attempts_of_a_call() -> None:
    script = Script(LOST, BUSY, 200, 200)
    dues = script.client()
    create(dues)
    create(dues)
    keys = [request.headers["idempotency-key"] for request in script.requests]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    script = Script(200)
    create(script.client(), idempotency_key="order-1")
    assert script.requests[0].headers["idempotency-key"] == "order-1"


def test_attempts_come_to_an_end() -> None:
    script = Script(*[503] * 9)
    with pytest.raises(errors.Unavailable):
        read(script.client(retries=2))
    assert len(script.requests) == 3


def test_a_call_ends_with_its_time() -> None:
    script = Script((503, {"retry-after": "90"}, {}))
    with pytest.raises(errors.Unavailable) as raised:
        read(script.client(timeout=60))
    assert (raised.value.retry_after, len(script.requests)) == (90, 1)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (409, "email_taken", errors.EmailTaken),
        (409, "package_archived", errors.PackageArchived),
        (409, "something_new", errors.Conflict),
        (410, "cursor_expired", errors.CursorExpired),
        (412, "precondition_failed", errors.PreconditionFailed),
        (422, "validation", errors.ValidationFailed),
        (422, "idempotency_key_reused", errors.IdempotencyKeyReused),
        (418, "teapot", errors.ApiError),
        (500, "internal_error", errors.ServerError),
        (400, "email_taken", errors.BadRequest),
    ],
)
def test_errors_are_of_their_code(status: int, code: str, kind: type[ApiError]) -> None:
    problem = {
        "code": code,
        "request_id": "r-1",
        "errors": [{"pointer": "#/amount", "code": "range", "detail": "too little"}],
    }
    with pytest.raises(kind) as raised:
        create(Script((status, {}, problem)).client())
    assert type(raised.value) is kind
    assert raised.value.request_id == "r-1"
    assert raised.value.errors[0].pointer == "#/amount"


def test_every_error_is_one_of_ours() -> None:
    for step, kind in ((UNREACHED, ConnectFailed), (LOST, NetworkError), (httpx.ReadTimeout("slow"), errors.TimedOut)):
        with pytest.raises(kind) as raised:
            read(Script(step).client(retries=0))
        assert isinstance(raised.value, DuesError)


def test_a_page_of_somebody_between_is_an_error() -> None:
    def between(status: int) -> Dues:
        transport = httpx.MockTransport(lambda _: httpx.Response(status, text="<p>"))
        return Dues("t", url="http://x", retries=0, transport=transport)

    with pytest.raises(errors.UnreadableAnswer):
        read(between(200))
    with pytest.raises(errors.ServerError) as raised:
        read(between(502))
    assert raised.value.code == ""


def test_what_is_sent() -> None:
    meta = {"current_page": 2, "last_page": 2, "per_page": 50, "total": 51, "total_is_exact": True}
    script = Script(200, (200, {}, {"data": [PACKAGE], "meta": meta, "links": {}}))
    dues = script.client()
    create(dues, description="", trial_days=7)
    request = script.requests[0]
    assert json.loads(request.content) == {
        "name": "Day", "amount": 1500, "interval": "once", "description": "", "trial_days": 7,
    }  # fmt: skip
    assert request.headers["authorization"] == "Bearer dues_x"
    assert request.headers["user-agent"].startswith("dues-client/")
    dues.packages.list("a/../b", amount_gte=5, archived=True, fields=["id", "name"]).page(2, per_page=50)
    assert script.requests[1].url.raw_path.startswith(b"/v1/stores/a%2F..%2Fb/packages?")
    sent = dict(script.requests[1].url.params)
    assert sent == {"amount[gte]": "5", "archived": "true", "fields": "id,name", "page": "2", "per_page": "50"}
    with pytest.raises(ValueError, match="empty"):
        dues.packages.get("s", "")


def test_the_last_answer_is_there_to_be_seen() -> None:
    dues = Script((200, {"x-request-id": "r-2"}, {})).client()
    read(dues)
    assert dues.last
    assert (dues.last.status, dues.last.request_id) == (200, "r-2")


def test_a_token_is_not_shown() -> None:
    assert "dues_x" not in repr(Script().client()) + str(vars(Script().client()._http))


@pytest.mark.parametrize("token", ["dues_x\n", "dues_x\r\nX-A: 1", "dues\x00_x"])
def test_what_no_header_can_hold_is_told_at_once_and_not_shown(token: str) -> None:
    script = Script()
    with pytest.raises(ValueError, match="Authorization") as told:
        read(script.client().with_options(token=token))
    assert "dues" not in str(told.value)
    assert not script.requests


@pytest.mark.parametrize("id_", ["", ".", ".."])
def test_an_id_names_no_other_path(id_: str) -> None:
    script = Script()
    for call in (lambda: script.client().stores.get(id_), lambda: script.client().packages.archive("s", id_)):
        with pytest.raises(ValueError, match="an id is"):
            call()
    assert not script.requests


def test_the_async_client_does_the_same() -> None:
    script = Script(LOST, 503, 200)

    async def run() -> str:
        async with AsyncDues("t", url="http://dues.test", transport=httpx.MockTransport(script)) as dues:
            package = await dues.packages.create("s", name="Day", amount=1500, interval="once")
            return package.name

    assert asyncio.run(run()) == "Day"
    assert len({request.headers["idempotency-key"] for request in script.requests}) == 1


def test_a_sync_is_walked_through_page_by_page() -> None:
    """Its operations are sent once more where an answer was lost, and not with the pages that follow."""
    pages: list[Any] = [(200, {}, {"results": [], "changes": [], "cursor": c, "has_more": m, "reset": []})
             for c, m in (("a", True), ("b", False))]  # fmt: skip
    script = Script(LOST, *pages)
    found = [page.cursor for page in script.client().sync.pages(ops=[{"id": "o"}], types=["post"])]
    sent = [json.loads(request.content) for request in script.requests]
    assert found == ["a", "b"]
    assert sent[0] == sent[1]
    assert sent[2] == {"cursor": "a", "ops": [], "types": ["post"]}


OPERATIONS: dict[str, tuple[int, dict[str, Any], list[int]]] = {
    "none": (0, {}, [0]),
    "as many as a request takes": (100, {}, [100]),
    "more": (250, {}, [100, 100, 50]),
    "large ones": (30, {"body": {"body": "é" * 50_000}}, [8, 8, 8, 6]),
    "one of which has to be sent again": (250, {"id": "again"}, [100]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_sync_sends_what_one_request_takes_at_a_time(name: str) -> None:
    count, more, expected = OPERATIONS[name]
    sent: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        operations = json.loads(request.content)["ops"]
        sent.append(len(operations))
        results = [
            {"id": one["id"], "status": 429 if one["id"] == "again" else 201, "problem": {}} for one in operations
        ]
        page = {"results": results, "changes": [], "cursor": f"{len(sent)}", "has_more": False, "reset": []}
        return httpx.Response(200, json=page)

    dues = Dues("t", url="http://dues.test", transport=httpx.MockTransport(answer), retries=0)
    operations: list[Any] = [{"id": f"{n}", **more} for n in range(count)]
    pages = list(dues.sync.pages(ops=operations))
    assert sent == expected
    assert sum(len(page.results) for page in pages) == sum(expected)
