"""Replays: what was missed, or is wanted once more, is sent again."""

from typing import Any

import pytest

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


def test_one_that_was_interrupted_goes_on(hooks: Hooks, make: Factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.webhooks.fanout._BATCH", 2)
    endpoint = hooks.register(events=["package.created"])
    for _ in range(5):
        make.event(hooks.store)
    replay(hooks, endpoint, after_seq=0)
    assert numbers(hooks) == [1, 2, 3, 4, 5]
    # As if the worker had died before it could say that it was done.
    hooks.make.rows("update jobs set status = 'queued', finished_at = null where kind = 'webhook.replay'")
    hooks.work.drain()
    assert numbers(hooks) == [1, 2, 3, 4, 5]


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
