"""Rate limits through real web servers: never more than the quota, however many processes count."""

import http.client
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace as Made
from typing import Any

import pytest

from api import limits
from api.app import create_app
from api.limits import Limit, LocalCounts, Policy
from api.server.redis_batch import UNKNOWN, CheckResult
from dues.ids import new_id
from dues.postgres import db
from dues.reads.freshness.store import Store
from dues.redis.wire import CacheAway
from tests.api.server.loop_server import LoopServer
from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

# So long that no test meets the end of a window.
WINDOW_S = 999_999_999
QUOTA = 40
each_host = pytest.mark.parametrize("target", ["server:app", pytest.param("wsgi:app", marks=pytest.mark.wide)])
both_hosts = pytest.mark.parametrize("target", ["server:app", "wsgi:app"])


def ask(
    web: WebServer, method: str = "GET", path: str = "/v1/me", **headers: str
) -> tuple[http.client.HTTPMessage, int]:
    """One request on a connection of its own, so that any process may get it."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, "{}" if method == "POST" else None, named)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 429:
            problem = json.loads(body)
            assert (problem["code"], problem["request_id"]) == ("rate_limited", answer.headers["X-Request-Id"])
        return answer.headers, answer.status
    finally:
        connection.close()


def statuses(web: WebServer, count: int, method: str = "GET", path: str = "/v1/me", **headers: str) -> Counter[int]:
    with ThreadPoolExecutor(16) as threads:
        return Counter(threads.map(lambda _: ask(web, method, path, **headers)[1], range(count)))


def limited(servers: Servers, **environ: str) -> WebServer:
    return WebServer(servers, threads=2, RATE_LIMIT=f"{QUOTA}/{WINDOW_S}", **environ)


@pytest.fixture
def user(make: Factory) -> Made:
    return make.user()


def test_four_processes_together_let_the_quota_through_and_no_more(servers: Servers, make: Factory, user: Made):
    first, second = make.auth(user), make.auth(make.user())
    with limited(servers, WEB_CONCURRENCY="4") as web:
        assert statuses(web, 3 * QUOTA, **first) == {200: QUOTA, 429: 2 * QUOTA}
        # A user's tokens share one quota; another user has another, and so has a client that sends none.
        assert ask(web, **make.auth(user))[1] == 429
        assert ask(web, **second)[1] == 200
        assert ask(web, path="/v1/stores")[1] == 200


@each_host
def test_what_operators_ask_is_answered_where_clients_have_used_up_their_gateway_s_quota(
    servers: Servers, clean: None, target: str
):
    """A gateway asks from one address for all its clients, and takes out a web server that does not say it is ready."""
    with limited(servers, target=target) as web:
        assert statuses(web, QUOTA + 2, path="/docs") == {200: QUOTA, 429: 2}
        for path in ("/readyz", "/readyz?ignore=redis", "/metrics", "/healthz"):
            headers, status = ask(web, path=path)
            assert (path, status, headers["RateLimit"]) == (path, 200, None)
        assert ask(web, path="/")[1] == 429


@each_host
def test_answers_say_what_is_left_and_refusals_when_to_come_back(
    servers: Servers, make: Factory, user: Made, target: str
):
    auth = make.auth(user)
    with limited(servers, target=target) as web:
        left = [ask(web, **auth)[0]["RateLimit"] for _ in range(3)]
        assert [text.split(";")[:2] for text in left] == [['"default"', f"r={QUOTA - n}"] for n in (1, 2, 3)]
        assert ask(web, **auth)[0]["RateLimit-Policy"] == f'"default";q={QUOTA};w={WINDOW_S}'

        assert statuses(web, QUOTA, **auth) == {200: QUOTA - 4, 429: 4}
        headers, status = ask(web, **auth)
        assert status == 429
        assert 0 < int(headers["Retry-After"] or 0) <= WINDOW_S
        assert (headers["RateLimit"] or "").startswith('"default";r=0;t=')


def test_payments_have_half_and_logging_in_a_tenth(servers: Servers, make: Factory, user: Made):
    auth, path = make.auth(user), f"/v1/stores/{make.store(user).id}/payments"
    with limited(servers) as web:
        # A token that is known to be good counts for itself alone.
        assert ask(web, **auth)[1] == 200
        paid = statuses(web, QUOTA, "POST", path, **auth, Content_Type="application/json")
        assert paid == {400: QUOTA // 2, 429: QUOTA // 2}
        assert ask(web, **auth)[1] == 200, "reads are counted apart"
        tried = statuses(web, QUOTA, "POST", "/v1/tokens", Content_Type="application/json")
        assert tried == {422: QUOTA // 10, 429: QUOTA - QUOTA // 10}


@both_hosts
def test_made_up_tokens_are_no_way_around_the_limit_of_their_address(
    servers: Servers, make: Factory, user: Made, target: str
):
    good = make.auth(user)
    with limited(servers, target=target) as web:
        assert ask(web, **good)[1] == 200
        found = Counter(ask(web, Authorization=f"Bearer dues_{new_id().hex}")[1] for _ in range(2 * QUOTA))
        # The good one has taken nothing from its address.
        assert found == {401: QUOTA, 429: QUOTA}
        assert ask(web, **good)[1] == 200


@each_host
def test_users_of_one_address_leave_each_other_their_quotas(servers: Servers, make: Factory, user: Made, target: str):
    with limited(servers, target=target) as web:
        assert [ask(web, **make.auth(make.user()))[1] for _ in range(QUOTA + 2)] == [200] * (QUOTA + 2)
        greedy = make.auth(user)
        # What is refused for a user's own sake does not count against the address either.
        assert statuses(web, 3 * QUOTA, **greedy) == {200: QUOTA, 429: 2 * QUOTA}
        assert int(_left(ask(web, path="/v1/stores")[0])) == QUOTA - 1


@each_host
def test_one_token_is_one_caller_however_it_is_written(servers: Servers, make: Factory, user: Made, target: str):
    token = make.auth(user)["Authorization"].removeprefix("Bearer ")
    with limited(servers, target=target) as web:
        schemes = ("Bearer", "bearer", "BEARER")
        written = [f"{schemes[n % 3]}{' ' * n}{token}" for n in range(1, QUOTA + 6)]
        assert Counter(ask(web, Authorization=text)[1] for text in written) == {200: QUOTA, 429: 5}
        # What is sent in the place of a token names no address.
        ask(web, Authorization="127.0.0.1")
        assert int(_left(ask(web, path="/v1/stores")[0])) == QUOTA - 2


def test_making_tokens_makes_no_quota(servers: Servers, make: Factory, user: Made):
    auth = make.auth(user) | {"Content_Type": "application/json"}
    with limited(servers) as web:
        assert ask(web, **auth)[1] == 200
        made = statuses(web, QUOTA, "POST", "/v1/tokens", **auth)
        assert made == {422: QUOTA // 10, 429: QUOTA - QUOTA // 10}


def test_a_head_that_is_refused_has_no_body(servers: Servers):
    with limited(servers) as web:
        statuses(web, QUOTA, path="/v1/stores")
        with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
            for method in ("HEAD", "GET", "HEAD", "GET"):
                connection.request(method, "/v1/stores")
                answer = connection.getresponse()
                assert answer.status == 429
                assert bool(answer.read()) is (method == "GET")


def _left(headers: http.client.HTTPMessage) -> str:
    return (headers["RateLimit"] or "").split(";")[1].removeprefix("r=")


@each_host
def test_without_redis_a_good_token_is_still_told_from_made_up_ones(
    servers: Servers, make: Factory, user: Made, target: str
):
    """What a caller may do is not kept then, but whose a token is."""
    auth, nowhere = make.auth(user), "redis://127.0.0.1:1/0"
    with limited(servers, target=target, WEB_CONCURRENCY="1", CACHE_REDIS_URL=nowhere, REDIS_URL=nowhere) as web:
        assert ask(web, **auth)[1] == 200
        assert 429 in {ask(web, Authorization=f"Bearer dues_{new_id().hex}")[1] for _ in range(2 * QUOTA)}
        assert ask(web, **auth)[1] == 200


def test_without_redis_all_processes_together_still_keep_to_the_quota(servers: Servers, make: Factory, user: Made):
    auth = make.auth(user)
    nowhere = "redis://127.0.0.1:1/0"
    with limited(servers, WEB_CONCURRENCY="4", CACHE_REDIS_URL=nowhere, REDIS_URL=nowhere) as web:
        found = statuses(web, 3 * QUOTA, **auth)
    assert 0 < found[200] <= QUOTA
    assert found[200] + found[429] == 3 * QUOTA


@pytest.mark.parametrize("counted_by", ["redis", "process"])
def test_a_request_is_given_back_where_it_was_counted_whatever_became_of_redis_since(
    monkeypatch: pytest.MonkeyPatch, counted_by: str
):
    in_redis, is_away, limit = Counter[str](), counted_by == "process", Limit(Policy("default", QUOTA, WINDOW_S), "x")

    class Redis:
        def count(self, name: str, window_s: int, count: int) -> tuple[int, int]:
            if is_away:
                raise CacheAway("it is away")
            in_redis[name] += count
            return in_redis[name], window_s

    local = LocalCounts(1)
    counter = limits.Counter(Redis(), local)  # type: ignore[arg-type]
    used = counter.add(limit)
    is_away = not is_away
    counter.give_back(limit, used)
    # Nobody has one request more for it, in either place.
    assert local.add(limit).requests == 1
    assert in_redis[limit.key] == (1 if counted_by == "redis" else 0)


@pytest.mark.parametrize("host", ["server", "flask"])
def test_a_good_token_that_was_counted_while_redis_was_away_leaves_its_address_no_request_more(
    servers: Servers, make: Factory, user: Made, monkeypatch: pytest.MonkeyPatch, host: str
):
    app = create_app(servers.settings(rate_limit=f"{QUOTA}/{WINDOW_S}"))
    is_away, count = True, Store.count

    def count_from_then_on(self: Store, *args: Any) -> tuple[int, int]:
        nonlocal is_away
        if is_away:
            is_away = False
            raise CacheAway("it is away")
        return count(self, *args)

    async def tell_nothing(*_: object) -> CheckResult:
        return UNKNOWN

    with LoopServer(app) as server:
        client = app.test_client()
        if host == "flask":
            monkeypatch.setattr(Store, "count", count_from_then_on)
            assert client.get("/v1/me", headers=make.auth(user)).status_code == 200
            left = client.get("/v1/stores").headers["RateLimit"]
        else:
            with monkeypatch.context() as away:
                away.setattr(server.application._checks, "ask", tell_nothing)
                assert server.ask("GET", "/v1/me", make.auth(user))[0] == 200
            left = server.ask("GET", "/v1/stores")[1]["ratelimit"]
    with app.app_context():
        db.engine.dispose()
    assert left.split(";")[1] == f"r={QUOTA - 1}"
