"""Work that was asked for, or is being done, as a store moves: it is done once, where the store is by then."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dues.billing.renewals import offer
from dues.clock import rfc3339
from dues.ids import new_id
from dues.jobs.lease import claim
from tests.billing.conftest import Club, at
from tests.jobs.conftest import Jobs
from tests.moves.conftest import PAYMENT, End
from tests.moves.test_all_stores import add_job
from tests.servers import Mailbox
from workers.job import execute, use_app
from workers.relay import sweep_once

# How often each kind of work was done.
DONE = {
    "report": "select count(*) from reports where status = 'succeeded'",
    "import": "select count(*) from imports where status = 'succeeded' and created = 1",
    "mailing": "select count(*) from mailings where status = 'succeeded' and sent = 1",
    "post that was scheduled": "select count(*) from posts where title = 'Later' and status = 'published'",
    "attempt at a delivery": "select count(*) from webhook_deliveries"
    " where event_type = 'package.created' and attempts <> '[]'",
    "renewal": "select count(*) from subscription_changes where kind = 'renewed'",
    "charge of a renewal": "select count(*) - 2 from sandbox_gateway.operations where outcome = 'succeeded'",
}


def ask_for_all(shop: Club) -> None:
    """Each of these kinds of work is asked for, and none of it is done."""
    member = shop.member()
    member.subscribe(shop.package(interval="week"))
    shop.age(8)

    def post(path: str, **sent: Any) -> None:
        headers = {**shop.owner_auth, "Idempotency-Key": new_id().hex, **sent.pop("headers", {})}
        answer = shop.client.post(path, headers=headers, **sent)
        assert answer.status_code in (201, 202), answer.text

    asked = {"kind": "payments", "format": "csv", "from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    post(f"{shop.path}/reports", json=asked)
    rows = "external_id,email,name\n1,ada@example.com,Ada\n"
    post(f"{shop.path}/imports?kind=customers", data=rows, headers={"Content-Type": "text/csv"})
    post_id = shop.make.post(shop.owner, store=shop.store, privacy="members").id
    post(f"{shop.path}/posts/{post_id}/mailings")
    later = {"store_id": str(shop.store.id), "title": "Later", "body": "x", "privacy": "public"}
    post("/v1/posts", json=later | {"publish_at": rfc3339(datetime.now(UTC) + timedelta(hours=1))})
    delivery_id = new_id()
    args = {"store_id": str(shop.store.id), "delivery_id": str(delivery_id)}
    job = add_job(shop.make, shop.store, kind="webhook.deliver", queue="webhooks", args=args, due=True)
    endpoint, event = shop.make.endpoint(shop.store), shop.make.event(shop.store)
    shop.make.delivery(endpoint, event, id=delivery_id, status="pending", job_id=job.id)


def renew_and_hurry(end: End) -> None:
    with end.app.app_context():
        offer()
    end.work.hurry()


def test_work_that_was_asked_for_is_done_once_where_the_store_is(shop: Club, here: End, elsewhere: End) -> None:
    ask_for_all(shop)
    with here.fenced(shop.store):
        # However long a move lasts, no worker takes any of it.
        renew_and_hurry(here)
        assert not any(here.make.value(done) for done in DONE.values())
        attempts = here.make.value("select max(attempt) from jobs where status = 'queued' and store_id is not null")
        assert attempts == 0
    here.move(shop.store, elsewhere)
    renew_and_hurry(here)
    renew_and_hurry(elsewhere)
    assert {name: elsewhere.make.value(done) for name, done in DONE.items()} == dict.fromkeys(DONE, 1)


def in_a_worker(end: End, do: Callable[[], object]) -> None:
    """A handler in the main thread would take the alarm that bounds the test."""

    def work() -> None:
        with end.app.app_context():
            do()

    use_app(end.app)
    with ThreadPoolExecutor(1) as worker:
        worker.submit(work).result()


def test_a_clock_that_is_being_moved_goes_on_where_the_store_is(
    make_club: Any, here: End, elsewhere: End, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    club: Club = make_club("2025-06-01")
    club.member().subscribe(club.package())
    answer = club.client.put(f"{club.path}/clock", json={"now": at("2025-08-15").isoformat()}, headers=club.owner_auth)
    job_id = UUID(answer.headers["Location"].rpartition("/")[2])
    begun = claim([job_id], "worker")
    assert begun
    held = []

    def ask(phase: str) -> None:
        if phase == "holding":
            # It has a charge to be made, which no worker may begin any more, nor itself.
            in_a_worker(here, lambda: execute(begun.claim, begun.lease))
            held.append(jobs.row(job_id))

    here.at_each_phase(monkeypatch, ask)
    here.move(club.store, elsewhere)
    assert [(job.status, job.queue, job.attempt) for job in held] == [("queued", "moving:slow", 0)]
    for _ in range(4):
        elsewhere.work.hurry()
    (clock,) = elsewhere.make.rows("select * from store_clocks")
    assert (clock.moment, clock.advancing_to) == (at("2025-08-15"), None)
    assert elsewhere.make.value("select count(*) from sandbox_gateway.operations where outcome = 'succeeded'") == 3


def test_a_worker_that_dies_while_jobs_are_held_leaves_its_job_to_the_other_end(
    shop: Club, here: End, elsewhere: End, jobs: Jobs, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {**shop.owner_auth, "Idempotency-Key": new_id().hex}
    asked = shop.client.post(f"{shop.path}/payments", json=PAYMENT, headers=headers).json or {}
    (job,) = here.make.rows("select id from jobs where kind = 'payment.charge' and status = 'queued'")
    assert claim([job.id], "worker")
    jobs.expire(job.id)
    here.at_each_phase(monkeypatch, lambda phase: sweep_once())
    here.move(shop.store, elsewhere)
    elsewhere.work.drain()
    made = "select outcome from sandbox_gateway.operations where key = %(id)s"
    assert [row.outcome for row in elsewhere.make.rows(made, asked)] == ["succeeded"]
    assert here.make.rows(made, asked) == []


def test_what_is_anybody_s_goes_on_while_a_store_of_theirs_moves(shop: Club, here: End, elsewhere: End) -> None:
    """A reader, who follows the store's author and is a customer there and elsewhere."""
    make, client, author = shop.make, shop.client, shop.owner
    reader, other = make.user(), make.store(author, slug="stays")
    auth = make.auth(reader)
    make.follow(reader, author)
    make.customer(shop.store, reader)
    own, there, stays = (make.post(author, store=store).id for store in (None, shop.store, other))

    def feed() -> set[str]:
        found = {post["id"] for post in (client.get("/v1/newsfeed", headers=auth).json or {})["data"]}
        assert found == {post["id"] for post in (client.get("/v1/newsfeed", headers=auth).json or {})["data"]}
        return found & {str(own), str(there), str(stays)}

    def likes() -> list[dict[str, Any]]:
        paths = [f"/v1/posts/{post}/like" for post in (there, own, stays)]
        return [{"id": str(new_id()), "method": "PUT", "path": path} for path in paths]

    def both(key: str) -> list[list[int]]:
        headers = {**auth, "Idempotency-Key": new_id().hex}
        batch = client.post("/v1/batch", json={"operations": likes()}, headers=headers).json or {}
        ops = [{**like, "at": rfc3339(datetime.now(UTC))} for like in likes()]
        sync = client.post("/v1/sync", json={"cursor": None, "ops": ops}, headers=auth).json or {}
        return [[one["status"] for one in answer["results"]] for answer in (batch, sync)]

    assert feed() == {str(own), str(there), str(stays)}
    with here.fenced(shop.store):
        assert feed() == {str(own), str(there), str(stays)}
        assert both("fenced") == [[503, 200, 200]] * 2
        renamed = client.patch("/v1/me", json={"name": "Another Name"}, headers=auth)
        assert renamed.status_code == 200
    here.move(shop.store, elsewhere)
    assert feed() == {str(own), str(stays)}
    assert both("gone") == [[404, 200, 200]] * 2
