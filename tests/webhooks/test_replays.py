"""Replays: what was missed, or is wanted once more, is sent again."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from dues.webhooks.replays import MOST_UNFINISHED
from tests.contention import Contention
from tests.factory import Factory
from tests.webhooks.hooks import Hooks


def replay(hooks: Hooks, endpoint: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer = hooks.send("POST", f"/webhook-endpoints/{endpoint['id']}/replays", body)
    assert answer.status_code == 202, answer.text
    replay = answer.json or {}
    assert answer.headers["Location"] == replay["links"]["job"]
    hooks.receiver.calls.clear()
    hooks.work.drain()
    job = hooks.client.get(replay["links"]["job"], headers=hooks.auth).json or {}
    assert (job["kind"], job["status"]) == ("webhook.replay", "succeeded")
    return replay


def numbers(hooks: Hooks) -> list[int]:
    return [event["seq"] for event in hooks.receiver.events]


def test_one_delivery(hooks: Hooks):
    hooks.register()
    hooks.happen()
    hooks.work.drain()
    first = hooks.delivery()
    answer = hooks.send("POST", f"/webhook-deliveries/{first['id']}/replays")
    assert answer.status_code == 202
    again = answer.json or {}
    assert answer.headers["Location"] == again["links"]["job"]
    assert (again["status"], again["event_id"]) == ("pending", first["event_id"])
    assert again["id"] != first["id"]
    hooks.work.drain()
    assert [delivery["status"] for delivery in hooks.deliveries()] == ["succeeded", "succeeded"]
    one, two = hooks.receiver.calls
    assert (one.body, one.headers["webhook-id"]) == (two.body, two.headers["webhook-id"])


def test_all_after_a_number(hooks: Hooks):
    endpoint = hooks.register()
    hooks.happen(5)
    hooks.work.drain()
    found = replay(hooks, endpoint, after_seq=2)
    assert (found["first_seq"], found["last_seq"]) == (3, 5)
    assert numbers(hooks) == [3, 4, 5]


def test_all_from_a_time_to_another(hooks: Hooks):
    endpoint = hooks.register()
    hooks.happen(5)
    hooks.work.drain()
    times = [event["timestamp"] for event in hooks.events()]
    replay(hooks, endpoint, **{"from": times[1], "to": times[3]})
    assert numbers(hooks) == [2, 3]
    replay(hooks, endpoint, **{"from": times[3]})
    assert numbers(hooks) == [4, 5]
    replay(hooks, endpoint, **{"from": "2099-01-01T00:00:00Z"})
    assert numbers(hooks) == []


@pytest.mark.usefixtures("spread")
def test_only_what_was_missed(hooks: Hooks):
    hooks.happen(1)
    endpoint = hooks.register()
    hooks.happen(2)
    hooks.work.drain()
    hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"enabled": False})
    hooks.happen(2)
    hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"enabled": True})
    hooks.work.drain()
    replay(hooks, endpoint, after_seq=0, missed=True)
    assert numbers(hooks) == [1, 4, 5]
    replay(hooks, endpoint, after_seq=0, missed=True)
    assert numbers(hooks) == []


def test_only_what_the_endpoint_wants(hooks: Hooks):
    endpoint = hooks.register(events=["package.archived"])
    hooks.happen(3)
    replay(hooks, endpoint, after_seq=0)
    assert numbers(hooks) == []


def ask(hooks: Hooks, endpoint: dict[str, Any], after: int = 0) -> TestResponse:
    return hooks.send("POST", f"/webhook-endpoints/{endpoint['id']}/replays", {"after_seq": after})


def job(hooks: Hooks, answer: TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = hooks.client.get(answer.headers["Location"], headers=hooks.auth).json or {}
    return found


class TestPace:
    """A replay makes its deliveries as the endpoint takes them."""

    @pytest.fixture(autouse=True)
    def _slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("dues.webhooks.replays.MOST_PENDING", 2)

    def test_it_goes_on_when_there_is_room(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register(events=["package.created"])
        for _ in range(5):
            make.event(hooks.store)
        asked = ask(hooks, endpoint)
        for done in (2, 4):
            hooks.work.hurry()
            found = job(hooks, asked)
            assert (found["status"], found["attempt"], found["progress"]["completed"]) == ("queued", 0, done)
            assert numbers(hooks) == list(range(1, done + 1))
        hooks.work.hurry()
        found = job(hooks, asked)
        assert (found["status"], found["attempt"], found["progress"]["percent"]) == ("succeeded", 1, 100)
        assert numbers(hooks) == [1, 2, 3, 4, 5]

    def test_a_receiver_that_is_away_is_not_sent_ever_more_to(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register(events=["package.created"])
        hooks.receiver.always(503)
        for _ in range(5):
            make.event(hooks.store)
        asked = ask(hooks, endpoint)
        for _ in range(3):
            hooks.work.hurry()
        assert len(hooks.deliveries()) == 2
        assert job(hooks, asked)["status"] == "queued"
        # Nor by asking again, and again.
        assert hooks.client.delete(asked.headers["Location"], headers=hooks.auth).status_code == 200
        assert ask(hooks, endpoint).status_code == 202
        hooks.work.hurry()
        assert len(hooks.deliveries()) == 2

    def test_one_that_was_interrupted_asks_for_nothing_twice(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register(events=["package.created"])
        for _ in range(5):
            make.event(hooks.store)
        asked = ask(hooks, endpoint)
        hooks.work.hurry()
        # As if the worker had died before it could say how far it was.
        make.rows("update jobs set progress = null where kind = 'webhook.replay'")
        for _ in range(2):
            hooks.work.hurry()
        assert job(hooks, asked)["status"] == "succeeded"
        assert numbers(hooks) == [1, 2, 3, 4, 5]

    def test_a_single_one_waits_for_room_too(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register()
        row = make.rows("select * from webhook_endpoints")[0]
        done = make.delivery(row, make.event(hooks.store))
        for _ in range(2):
            make.delivery(row, make.event(hooks.store), status="pending")
        answer = hooks.send("POST", f"/webhook-deliveries/{done.id}/replays")
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_unfinished")
        assert hooks.endpoint(endpoint["id"])["enabled"]


class TestHowMany:
    def test_one_of_an_endpoint_at_a_time(self, hooks: Hooks):
        endpoint, other = hooks.register(), hooks.register()
        hooks.happen()
        first = ask(hooks, endpoint)
        again = ask(hooks, endpoint)
        assert (again.status_code, (again.json or {})["code"]) == (409, "too_many_unfinished")
        assert ask(hooks, other).status_code == 202
        hooks.work.drain()
        assert job(hooks, first)["status"] == "succeeded"
        assert ask(hooks, endpoint).status_code == 202

    def test_of_two_requests_at_once_one_is_taken(self, hooks: Hooks, contention: Contention):
        endpoint = hooks.register()
        lock = "select from webhook_endpoints where id = %(id)s for update"
        with contention.held(lock, id=endpoint["id"]):
            futures = contention.start(
                *[lambda: hooks.app.test_client().post(path(hooks, endpoint), **sent(hooks))] * 3
            )
        assert sorted(future.result().status_code for future in futures) == [202, 409, 409]

    def test_so_many_of_a_store(self, hooks: Hooks):
        endpoints = [hooks.register() for _ in range(MOST_UNFINISHED + 1)]
        answers = [ask(hooks, endpoint) for endpoint in endpoints]
        assert [answer.status_code for answer in answers] == [202] * MOST_UNFINISHED + [409]
        assert (answers[-1].json or {})["code"] == "too_many_unfinished"
        other = Hooks(hooks.app, hooks.receiver, hooks.make, hooks.work, "otto@example.com")
        assert ask(other, other.register()).status_code == 202
        hooks.client.delete(answers[0].headers["Location"], headers=hooks.auth)
        assert ask(hooks, endpoints[-1]).status_code == 202

    def test_an_event_is_on_its_way_to_an_endpoint_once(self, hooks: Hooks):
        hooks.register()
        hooks.happen()
        hooks.work.drain()
        again = f"/webhook-deliveries/{hooks.delivery()['id']}/replays"
        assert hooks.send("POST", again).status_code == 202
        answer = hooks.send("POST", again)
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_unfinished")
        hooks.work.drain()
        assert hooks.send("POST", again).status_code == 202


def path(hooks: Hooks, endpoint: dict[str, Any]) -> str:
    return f"{hooks.path}/webhook-endpoints/{endpoint['id']}/replays"


def sent(hooks: Hooks) -> dict[str, Any]:
    return {"json": {"after_seq": 0}, "headers": hooks.auth}


def test_replays_make_way_for_what_happens_now(hooks: Hooks, make: Factory):
    endpoint = hooks.register()
    make.event(hooks.store)
    replay(hooks, endpoint, after_seq=0)
    hooks.happen()
    hooks.work.drain()
    assert [
        job.priority for job in make.rows("select priority from jobs where kind = 'webhook.deliver' order by id")
    ] == [
        200,
        100,
    ]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["#/after_seq"]),
        ({"after_seq": 1, "from": "2026-01-01T00:00:00Z"}, ["#/after_seq"]),
        ({"after_seq": 1, "to": "2026-01-01T00:00:00Z"}, ["#/to"]),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, ["#/to"]),
        ({"after_seq": -1, "from": "yesterday"}, ["#/after_seq", "#/from"]),
    ],
)
def test_what_is_wrong_is_told(body: dict[str, Any], pointers: list[str], hooks: Hooks):
    endpoint = hooks.register()
    answer = hooks.send("POST", f"/webhook-endpoints/{endpoint['id']}/replays", body)
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in (answer.json or {})["errors"]] == pointers


def test_nothing_is_sent_to_what_is_disabled(hooks: Hooks):
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    delivery = hooks.delivery()
    hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"enabled": False})
    for path in (f"/webhook-deliveries/{delivery['id']}", f"/webhook-endpoints/{endpoint['id']}"):
        answer = hooks.send("POST", f"{path}/replays", {"after_seq": 0})
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "webhook_endpoint_disabled")
