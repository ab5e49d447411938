"""Shared caches: what they may keep, and that each commit which puts some of it out of date has it purged."""

import time
from collections.abc import Callable
from types import SimpleNamespace as Row
from typing import Any

import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient
from urllib3 import PoolManager

from config import ConfigError, load_settings
from dues import breaker
from dues.cdn import _tag
from dues.ids import new_id
from dues.postgres import transactions as db
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads.freshness.journal import ALL, word_of
from dues.reads.tags import record_change, touch
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import Servers, wait_until
from tests.test_settings import LEAST
from tests.webhooks.conftest import configured, receiver
from tests.webhooks.receiver import Receiver
from tests.webserver import WebServer
from tests.workers.conftest import Processes, processes

__all__ = ["configured", "processes", "receiver"]

TOKEN = "a-token-that-the-cache-knows"
KEPT = "public, max-age=0, must-revalidate, s-maxage=300"
ASKED_FOR = "public, no-cache"


class Edge:
    """A store, those who run it, and a cache in front which is told what to purge."""

    def __init__(self, app: Flask, receiver: Receiver, make: Factory) -> None:
        self.app, self.make, self.receiver = app, make, receiver
        self.client = app.test_client()
        self.owner = make.user()
        self.store = make.store(self.owner)
        self.path = f"/v1/stores/{self.store.id}"
        self.package = make.package(self.store)
        self._work = Work(app, make)
        self._auth = make.auth(self.owner)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def change_package(self, name: str = "New") -> None:
        path = f"{self.path}/packages/{self.package.id}"
        assert self.client.patch(path, json={"name": name}, headers=self._auth).status_code == 200

    def send(self, method: str, path: str, body: Any = None) -> Any:
        return self.client.open(path, method=method, json=body, headers=self._auth)

    def post(self, privacy: str = "public") -> str:
        """The id of a new post of the store, with what nobody else may see in it unless it is public."""
        new = {"body": "Secret", "privacy": privacy, "store_id": str(self.store.id)}
        made = self.send("POST", "/v1/posts", new)
        assert made.status_code == 201, made.text
        self.make.rows("delete from jobs")
        return str(made.json["id"])

    def paths_of(self, post: str) -> list[str]:
        """Where a post shows."""
        author = f"/v1/users/{self.owner.id}/posts"
        one = f"/v1/posts/{post}"
        return [
            one,
            f"{one}?include=author,store,comments",
            f"{one}/comments",
            "/v1/posts",
            author,
            f"{self.path}/posts",
        ]

    def kept(self, path: str) -> Any:
        """A public answer that shared caches may keep: once Redis can tell what is fresh."""
        wait_until(lambda: self.get(path).headers["Cache-Control"] == KEPT, 20, f"{path} to be kept")
        return self.get(path)

    def touch(self, *tags: str) -> None:
        with self.app.app_context(), db.transaction():
            touch(*tags)

    def jobs(self) -> list[Row]:
        return self.make.rows("select * from jobs where kind = 'edge.purge' order by id")

    def purged(self) -> list[set[str]]:
        """The tags of each request that the cache got."""
        return [set(ujson.loads(call.body)["tags"]) for call in self.receiver.calls]

    def work(self) -> None:
        """What is due is done."""
        self._work.drain()

    def hurry(self) -> None:
        """What is queued is done, whenever it is due."""
        self._work.hurry()


@pytest.fixture
def edge(
    configured: Callable[..., Flask],
    receiver: Receiver,
    make: Factory,
    monkeypatch: pytest.MonkeyPatch,
) -> Edge:
    monkeypatch.setattr(breaker, "_trusted_until", {})
    app = configured(purge_url=receiver.url, purge_token=TOKEN)
    return Edge(app, receiver, make)


class TestWhatMayBeKept:
    def test_without_a_cache_to_tell_all_is_asked_for_each_time(self, client: FlaskClient, make: Factory):
        owner = make.user()
        store = make.store(owner)
        for path in ("/v1/stores", f"/v1/stores/{store.id}", f"/v1/stores/{store.id}/packages"):
            assert client.get(path).headers["Cache-Control"] == ASKED_FOR
        client.patch(f"/v1/stores/{store.id}", json={"name": "New"}, headers=make.auth(owner))
        assert make.rows("select * from jobs") == []

    def test_the_public_catalogue(self, edge: Edge):
        for path in ("/v1/stores", edge.path, f"{edge.path}/packages", f"{edge.path}/packages/{edge.package.id}"):
            answer = edge.get(path)
            assert (answer.status_code, answer.headers["Cache-Control"]) == (200, KEPT)
            assert answer.headers["Vary"] == "Accept-Encoding, Authorization"
            again = edge.get(path, **{"If-None-Match": answer.headers["ETag"]})
            assert (again.status_code, again.headers["Cache-Control"]) == (304, KEPT)

    def test_profiles_are_asked_for_since_every_payment_touches_their_tag(self, edge: Edge):
        assert edge.get(f"/v1/users/{edge.owner.id}").headers["Cache-Control"] == ASKED_FOR

    def test_nothing_that_a_token_was_sent_for(self, edge: Edge):
        answer = edge.get(f"{edge.path}/packages", **edge.make.auth(edge.owner))
        assert answer.headers["Cache-Control"] == "private, no-cache"

    def test_posts_as_everybody_may_see_them(self, edge: Edge):
        post = edge.post()
        for path in edge.paths_of(post):
            kept = edge.kept(path)
            # A word of the journal that names all, beside those of what is shown.
            words = set(kept.headers["Surrogate-Key"].split())
            assert {_tag(ALL)} < words == set(kept.headers["Cache-Tag"].split(","))
            mine = edge.get(path, **edge.make.auth(edge.owner))
            assert mine.headers["Cache-Control"] == "private, no-cache"
            assert "Surrogate-Key" not in mine.headers

    @pytest.mark.parametrize(
        "privacy", ["members", *(pytest.param(privacy, marks=pytest.mark.wide) for privacy in ("followers", "private"))]
    )
    def test_no_post_that_not_everybody_may_see(self, edge: Edge, privacy: str):
        post = edge.post(privacy=privacy)
        for path in edge.paths_of(post):
            for _ in range(2):
                answer = edge.get(path)
                assert answer.status_code == 404 or (answer.json["data"] == [] and "Secret" not in answer.text)
                if answer.status_code == 404:
                    assert answer.headers["Cache-Control"] == "no-store"
            mine = edge.get(path, **edge.make.auth(edge.owner))
            assert mine.headers["Cache-Control"] in ("private, no-cache", "no-store")

    def test_no_answer_that_depends_on_more_than_proxies_take_tags_of(self, edge: Edge):
        for _ in range(70):
            edge.make.post(edge.make.user(), privacy="public")
        path = "/v1/posts?per_page=100"
        wait_until(
            lambda: "desc=hit" in edge.get(path).headers["Server-Timing"], 20, "an answer that Dues itself keeps"
        )
        answer = edge.get(path)
        assert (answer.headers["Cache-Control"], answer.headers.get("Surrogate-Key")) == (ASKED_FOR, None)

    def test_no_refusal(self, edge: Edge):
        assert edge.get(f"/v1/stores/{new_id()}").headers["Cache-Control"] == "no-store"


class TestWhatIsPurged:
    def test_what_a_write_touches_of_the_catalogue(self, edge: Edge):
        store, packages = f"store:{edge.store.id}", f"store:{edge.store.id}:packages"
        edge.change_package()
        edge.send("PATCH", edge.path, {"name": "New"})
        edge.send("DELETE", f"{edge.path}/packages/{edge.package.id}")
        new = edge.send("POST", "/v1/stores", {"name": "Second", "currency": "EUR"}).json["id"]
        assert [set(job.args["tags"]) for job in edge.jobs()] == [
            {packages},
            # Posts of the store show it, too.
            {"stores", store, _tag(word_of(edge.store.id))},
            {packages},
            {"stores", f"store:{new}"},
        ]

    @pytest.mark.parametrize(
        "change",
        [
            ("PATCH", "", {"body": "New"}),
            ("PATCH", "", {"privacy": "private"}),
            ("PUT", "/like", None),
            ("POST", "/comments", {"body": "New"}),
            ("DELETE", "", None),
            ("PATCH", "/v1/me", {"name": "New"}),
            ("PATCH", "store", {"name": "New"}),
        ],
        ids=lambda change: " ".join(map(str, change)),
    )
    def test_each_answer_that_shows_a_post_by_a_tag_that_it_carries(self, edge: Edge, change: tuple[str, str, Any]):
        post = edge.post()
        carried = {path: set(edge.kept(path).headers["Surrogate-Key"].split()) for path in edge.paths_of(post)}
        method, where, body = change
        path = edge.path if where == "store" else where if where.startswith("/v1") else f"/v1/posts/{post}{where}"
        assert edge.send(method, path, body).status_code in (200, 201, 204)
        purged = {tag for job in edge.jobs() for tag in job.args["tags"]}
        # Comments show neither the post's author nor its store.
        shown = [path for path in carried if where not in ("/v1/me", "store") or not path.endswith("/comments")]
        assert [path for path in shown if not carried[path] & purged] == []

    def test_all_posts_where_a_write_names_more_than_can_be_told_apart(self, edge: Edge):
        with edge.app.app_context(), db.transaction():
            record_change(*(new_id() for _ in range(100)))
        assert [job.args["tags"] for job in edge.jobs()] == [[_tag(ALL)]]

    def test_every_kept_answer_by_a_tag_that_it_carries(self, edge: Edge):
        edge.touch("stores", f"store:{edge.store.id}", f"store:{edge.store.id}:packages")
        edge.work()
        for path in ("/v1/stores", edge.path, f"{edge.path}/packages", f"{edge.path}/packages/{edge.package.id}"):
            carried = edge.get(path).headers["Surrogate-Key"].split()
            assert edge.purged()[0] >= set(carried)

    def test_no_payment_no_account_no_token(self, edge: Edge):
        paid = {"amount": 100, "currency": "EUR", "description": "x", "payment_method": "sandbox_ok"}
        headers = edge.make.auth(edge.make.user()) | {"Idempotency-Key": "one"}
        assert edge.client.post(f"{edge.path}/payments", json=paid, headers=headers).status_code == 202
        edge.touch(f"user:{edge.owner.id}", "packages", f"store:{edge.store.id}:payments", "token:00ff")
        assert edge.jobs() == []

    def test_nothing_where_the_write_was_not_committed(self, edge: Edge, monkeypatch: pytest.MonkeyPatch):
        def fail(work: UnitOfWork) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(db, "_last_before_commit", [fail])
        with pytest.raises(ZeroDivisionError):
            edge.touch("stores")
        assert edge.jobs() == []

    def test_any_number_of_tags(self, edge: Edge):
        tags = {f"store:{new_id()}:packages" for _ in range(120)}
        edge.touch(*tags)
        assert len(edge.jobs()) == 3
        edge.work()
        assert sorted(map(len, edge.purged())) == [20, 100]
        assert set.union(*edge.purged()) == tags
        assert all(len(call.headers["surrogate-key"]) < 8000 for call in edge.receiver.calls)


class TestPurging:
    def test_a_request_names_the_tags_twice_and_the_token(self, edge: Edge):
        edge.touch("stores", f"store:{edge.store.id}")
        edge.work()
        (call,) = edge.receiver.calls
        assert call.path == "/hooks?k=1"
        assert call.headers["surrogate-key"] == f"store:{edge.store.id} stores"
        assert ujson.loads(call.body) == {"tags": [f"store:{edge.store.id}", "stores"]}
        assert call.headers["content-type"] == "application/json"
        assert call.headers["authorization"] == f"Bearer {TOKEN}"
        assert edge.jobs()[0].status == "succeeded"

    def test_once_more_when_no_answer_of_before_can_be_under_way(self, edge: Edge):
        edge.change_package()
        edge.work()
        assert len(edge.purged()) == 1
        waits_s = (edge.jobs()[1].run_at - edge.jobs()[0].finished_at).total_seconds()
        assert waits_s == pytest.approx(20, abs=8)
        edge.hurry()
        edge.hurry()
        assert edge.purged() == [{f"store:{edge.store.id}:packages"}] * 2
        assert [job.status for job in edge.jobs()] == ["succeeded"] * 2

    def test_many_writes_are_one_purge(self, edge: Edge):
        for number in range(20):
            edge.change_package(f"Name {number}")
        edge.touch("stores")
        edge.work()
        assert edge.purged() == [{f"store:{edge.store.id}:packages", "stores"}]
        assert {job.status for job in edge.jobs()[:21]} == {"succeeded"}
        edge.hurry()
        assert len(edge.purged()) == 2

    def test_what_is_committed_while_one_is_sent_is_sent_after_it(self, edge: Edge):
        answer = edge.receiver.answer

        def write_meanwhile(call: Any) -> Any:
            edge.receiver.answer = answer
            edge.touch("stores")
            return answer(call)

        edge.receiver.answer = write_meanwhile
        edge.change_package()
        edge.work()
        assert edge.purged() == [{f"store:{edge.store.id}:packages"}, {"stores"}]


class TestACacheThatDoesNotListen:
    @pytest.mark.parametrize(
        "status", [302, 500, *(pytest.param(status, marks=pytest.mark.wide) for status in (401, 429))]
    )
    def test_is_told_again(self, edge: Edge, status: int):
        edge.receiver.always(status, Location=edge.receiver.url)
        edge.change_package()
        edge.work()
        (job,) = edge.jobs()
        assert (job.status, job.attempt, len(edge.receiver.calls)) == ("queued", 1, 1)
        assert job.error["detail"] == f"PURGE_URL answered {status}"
        edge.receiver.always(200)
        edge.hurry()
        assert edge.jobs()[0].status == "succeeded"
        assert edge.purged()[:2] == [{f"store:{edge.store.id}:packages"}] * 2

    def test_is_told_all_at_once_when_it_listens_again(self, edge: Edge):
        edge.receiver.hang_up()
        for tag in ("stores", f"store:{edge.store.id}"):
            edge.touch(tag)
            edge.work()
        edge.receiver.always(200)
        edge.make.rows("update jobs set run_at = now() where id = (select id from jobs order by id limit 1)")
        edge.work()
        assert edge.purged()[-1] == {"stores", f"store:{edge.store.id}"}
        assert [job.status for job in edge.jobs()] == ["succeeded", "succeeded", "queued"]

    def test_is_left_alone_for_a_while(self, edge: Edge):
        edge.receiver.hang_up()
        edge.change_package()
        edge.work()
        for _ in range(8):
            edge.hurry()
        assert len(edge.receiver.calls) == 5
        (job,) = edge.jobs()
        assert (job.status, job.attempt) == ("queued", 5)
        (circuit,) = edge.make.rows("select * from circuit_breakers")
        assert (circuit.name, circuit.failures) == (f"edge:127.0.0.1:{edge.receiver.port}", 5)

    def test_has_let_go_by_itself_in_the_end(self, edge: Edge):
        edge.change_package()
        edge.make.rows(f"update jobs set args = args || '{{\"until\": {int(time.time()) - 1}}}'")
        edge.work()
        (job,) = edge.jobs()
        assert (job.status, edge.receiver.calls) == ("failed", [])
        assert "have let go by themselves" in job.error["detail"]

    def test_the_token_is_in_no_job_and_no_line(self, edge: Edge, caplog: pytest.LogCaptureFixture):
        edge.receiver.always(500, body=TOKEN.encode())
        edge.change_package()
        edge.work()
        assert TOKEN not in caplog.text
        assert TOKEN not in str(edge.jobs())


@pytest.mark.parametrize("url", ["ftp://example.com", "https://user:secret@example.com/purge", "example.com"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str):
    with pytest.raises(ConfigError, match="PURGE_URL does not read"):
        load_settings({**LEAST, "PURGE_URL": url})


def test_from_the_web_server_to_the_cache(
    servers: Servers, make: Factory, processes: Processes, receiver: Receiver
) -> None:
    owner = make.user()
    store = make.store(owner)
    processes.start_both("webhooks:1", PURGE_URL=receiver.url)
    with WebServer(servers, PURGE_URL=receiver.url) as web, PoolManager() as http:
        address = f"{web.url}/v1/stores/{store.id}"
        # The last comes from the response cache.
        answers = [http.request("GET", address) for _ in range(3)]
        assert {answer.headers["Cache-Control"] for answer in answers} == {KEPT}
        assert http.request("PATCH", address, json={"name": "New"}, headers=make.auth(owner)).status == 200
        wait_until(lambda: receiver.calls, 20, "the purge")
    assert set(ujson.loads(receiver.calls[0].body)["tags"]) == {"stores", f"store:{store.id}", _tag(word_of(store.id))}


@pytest.mark.parametrize("target", ["server:app", "wsgi:app"])
def test_what_others_may_be_given_names_no_callers_limit(servers: Servers, make: Factory, target: str) -> None:
    user = make.user()
    with (
        WebServer(servers, target=target, PURGE_URL="http://127.0.0.1:1", RATE_LIMIT="1000/60") as web,
        PoolManager() as http,
    ):
        shared = [http.request("GET", f"{web.url}/v1/stores") for _ in range(4)]
        assert not any("RateLimit" in answer.headers for answer in shared)
        assert "RateLimit" in http.request("GET", f"{web.url}/v1/me", headers=make.auth(user)).headers
