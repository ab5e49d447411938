"""Deliveries: sent again and again by the schedule until they are taken or given up."""

import time
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace as Row
from unittest.mock import ANY

import pytest
from flask import Flask

from dues.jobs.kinds import WEBHOOK_DELIVER
from dues.webhooks import outbound, schedule
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import wait_until
from tests.webhooks.hooks import Hooks, waited
from tests.webhooks.receiver import Receiver


def test_a_delivery_as_it_is_read(hooks: Hooks):
    endpoint = hooks.register()
    hooks.receiver.always(200, b"thanks")
    hooks.happen()
    hooks.work.drain()
    delivery = hooks.delivery()
    assert delivery == {
        "id": ANY,
        "store_id": str(hooks.store.id),
        "endpoint_id": endpoint["id"],
        "event_id": hooks.events()[0]["id"],
        "event_type": "package.created",
        "seq": 1,
        "status": "succeeded",
        "failure_code": None,
        "attempts": [
            {"at": ANY, "duration_ms": ANY, "status_code": 200, "failure_code": None, "response": "thanks"},
        ],
        "next_attempt_at": None,
        "version": 2,
        "created_at": ANY,
        "updated_at": ANY,
        "links": {
            "self": f"{hooks.path}/webhook-deliveries/{delivery['id']}",
            "event": f"{hooks.path}/events?seq=1",
            "job": ANY,
        },
    }
    job = hooks.client.get(delivery["links"]["job"], headers=hooks.auth).json or {}
    assert (job["kind"], job["status"]) == ("webhook.deliver", "succeeded")
    assert job["result"]["href"] == delivery["links"]["self"]
    assert hooks.get(f"/webhook-deliveries?status=succeeded&endpoint_id={endpoint['id']}")["data"] == [delivery]
    assert hooks.get("/webhook-deliveries?status=failed")["data"] == []


def test_there_are_as_many_attempts_as_the_schedule_has():
    assert WEBHOOK_DELIVER.max_attempts == len(schedule.WAITS_S) + 1


class TestFailing:
    def test_it_is_tried_again_by_the_schedule_and_then_given_up(self, hooks: Hooks):
        hooks.register()
        hooks.receiver.always(500, b"oops")
        hooks.happen()
        for number, planned in enumerate((*schedule.WAITS_S, None), 1):
            hooks.work.hurry()
            delivery = hooks.delivery()
            assert len(delivery["attempts"]) == number
            assert delivery["failure_code"] == "status"
            if planned is None:
                break
            assert delivery["status"] == "pending"
            assert planned <= waited(delivery) <= planned * 1.2 + 1
            run_at = hooks.job_of(delivery).run_at
            assert abs((run_at - datetime.fromisoformat(delivery["next_attempt_at"])).total_seconds()) < 5
        assert (delivery["status"], delivery["next_attempt_at"]) == ("failed", None)
        assert {(a["status_code"], a["response"]) for a in delivery["attempts"]} == {(500, "oops")}
        assert hooks.job_of(delivery).status == "failed"
        hooks.work.hurry()
        assert len(hooks.receiver.calls) == 10

    @pytest.mark.parametrize(
        ("status", "code"), [(101, "status"), (301, "redirect"), (307, "redirect"), (400, "status"), (503, "status")]
    )
    def test_only_2xx_is_success(self, status: int, code: str, hooks: Hooks):
        hooks.register()
        hooks.receiver.always(status, Location=hooks.receiver.url)
        hooks.happen()
        hooks.work.drain()
        delivery = hooks.delivery()
        assert (delivery["status"], delivery["failure_code"]) == ("pending", code)
        assert len(hooks.receiver.calls) == 1

    def test_no_answer_is_a_failure(self, hooks: Hooks):
        hooks.register()
        hooks.receiver.hang_up()
        hooks.happen()
        hooks.work.drain()
        [attempt] = hooks.delivery()["attempts"]
        assert (attempt["status_code"], attempt["response"]) == (None, "")
        assert attempt["failure_code"] in ("connect", "protocol")

    @pytest.mark.parametrize(("asked", "least", "most"), [("60", 60, 61), ("2", 5, 7), ("999999", 86400, 86401)])
    def test_retry_after_is_honoured_within_a_day(self, asked: str, least: float, most: float, hooks: Hooks):
        hooks.register()
        hooks.receiver.always(429, Retry_After=asked)
        hooks.happen()
        hooks.work.drain()
        assert least <= waited(hooks.delivery()) <= most

    def test_a_receiver_that_is_slow_is_left(self, configured: Callable[..., Flask], hooks: Hooks):
        app = configured(webhook_timeout_s=0.3)
        hooks.register()
        hooks.receiver.delay_s = 1
        hooks.happen()
        started = time.monotonic()
        Work(app, hooks.make).drain()
        assert time.monotonic() - started < 5
        [attempt] = hooks.delivery()["attempts"]
        assert attempt["failure_code"] == "timeout"
        assert 300 <= attempt["duration_ms"] < 1000

    def test_an_address_that_has_become_private_is_not_called(self, hooks: Hooks, make: Factory, monkeypatch):
        make.endpoint(hooks.store, url="http://rebound.example:8080/")
        monkeypatch.setattr(outbound, "resolve", lambda host: ["127.0.0.1"])
        hooks.happen()
        hooks.work.drain()
        delivery = hooks.delivery()
        assert (delivery["status"], delivery["failure_code"]) == ("pending", "url_forbidden_address")

    def test_a_url_that_is_no_longer_allowed_is_not_called(self, hooks: Hooks, make: Factory):
        make.endpoint(hooks.store, url=f"http://127.0.0.2:{hooks.receiver.port}/")
        hooks.happen()
        hooks.work.drain()
        delivery = hooks.delivery()
        assert (delivery["status"], delivery["failure_code"]) == ("pending", "url_forbidden_address")
        assert hooks.receiver.calls == []

    def test_a_success_ends_it(self, hooks: Hooks):
        endpoint = hooks.register()
        hooks.receiver.always(500)
        hooks.happen()
        hooks.work.drain()
        assert hooks.endpoint(endpoint["id"])["failing_since"]
        hooks.receiver.always(200)
        hooks.work.hurry()
        delivery = hooks.delivery()
        assert (delivery["status"], delivery["failure_code"]) == ("succeeded", None)
        assert [attempt["status_code"] for attempt in delivery["attempts"]] == [500, 200]
        assert hooks.endpoint(endpoint["id"])["failing_since"] is None


def test_a_delivery_whose_worker_dies_is_made_again(hooks: Hooks, make: Factory, monkeypatch: pytest.MonkeyPatch):
    """It cannot be known whether the receiver has it; the receiver knows, by its id."""
    hooks.register()
    hooks.happen()
    hooks.work.drain()
    make.rows("update webhook_deliveries set status = 'pending'")
    make.rows("update jobs set status = 'queued', finished_at = null where kind = 'webhook.deliver'")
    hooks.work.drain()
    assert len({call.headers["webhook-id"] for call in hooks.receiver.calls}) == 1
    assert len(hooks.receiver.calls) == 2
    assert hooks.delivery()["status"] == "succeeded"


@pytest.mark.parametrize("scale", [20_000, pytest.param(3_600, marks=pytest.mark.slow)])
def test_a_receiver_that_is_down_for_a_day_misses_nothing(
    scale: int, configured: Callable[..., Flask], receiver: Receiver, make: Factory
):
    """All times divided by `scale`: what happens before, during and after the day arrives."""
    app, day_s = configured(webhook_retry_scale=scale), 86_400 / scale
    hooks = Hooks(app, receiver, make, Work(app, make))
    hooks.register()
    hooks.happen(3)
    hooks.work.drain()
    receiver.hang_up()
    back_at = time.monotonic() + day_s
    while time.monotonic() < back_at:
        hooks.happen()
        hooks.work.drain()
        time.sleep(day_s / 20)
    receiver.always(204)
    refused = len(receiver.calls)
    hooks.happen(3)

    def arrived() -> bool:
        hooks.work.drain()
        return not make.rows("select 1 from webhook_deliveries where status = 'pending'")

    wait_until(arrived, 4 * day_s, "all deliveries to succeed")
    numbers = {call.event["seq"] for call in [*receiver.calls[:3], *receiver.calls[refused:]]}
    last = make.value("select last_seq from event_streams")
    assert last > 6, "nothing happened meanwhile"
    assert numbers == set(range(1, last + 1))
    assert make.rows("select distinct status from webhook_deliveries") == [Row(status="succeeded")]
