"""Deliveries: from an event to its receivers, again and again until it is taken or given up."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any
from unittest.mock import ANY

import pytest
from flask import Flask
from redis import Redis

from config import Settings
from dues.jobs import Ending
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.kinds import WEBHOOK_DELIVER
from dues.packages.service import NewPackage, create_package
from dues.postgres import transaction
from dues.webhooks import outbound, schedule
from dues.webhooks.deliveries import give_up
from dues.webhooks.hosts import hosts
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import Servers, wait_until
from tests.webhooks.hooks import Hooks
from tests.webhooks.receiver import Answer, Receiver


def waited(delivery: dict[str, Any]) -> float:
    """How long a delivery will have waited for its next attempt, seconds."""
    next_at = datetime.fromisoformat(delivery["next_attempt_at"])
    return round((next_at - datetime.fromisoformat(delivery["updated_at"])).total_seconds(), 3)


class TestFanOut:
    def test_an_event_reaches_every_endpoint_that_wants_it(self, hooks: Hooks):
        wanted = [hooks.register(events=events) for events in (["*"], ["package.created", "payment.failed"])]
        hooks.register(events=["package.archived"])
        hooks.register(enabled=False)
        hooks.happen()
        hooks.work.drain()
        deliveries = hooks.deliveries()
        assert {delivery["endpoint_id"] for delivery in deliveries} == {endpoint["id"] for endpoint in wanted}
        assert {delivery["status"] for delivery in deliveries} == {"succeeded"}
        assert len(hooks.receiver.calls) == 2

    def test_other_stores_hear_nothing(self, hooks: Hooks, make: Factory):
        make.endpoint(make.store(), url=hooks.receiver.url)
        hooks.happen()
        hooks.work.drain()
        assert hooks.receiver.calls == []

    def test_many_events_are_several_jobs(self, hooks: Hooks, make: Factory, monkeypatch: pytest.MonkeyPatch):
        """So that other stores' events have their turn in between."""
        monkeypatch.setattr("dues.webhooks.fanout.MOST_EVENTS", 2)
        hooks.register()
        with hooks.app.app_context(), transaction():
            for _ in range(5):
                create_package(hooks.store.id, NewPackage(name="Gold", amount=100, interval="month"))
        hooks.work.drain()
        assert [call.event["seq"] for call in hooks.receiver.calls] == [1, 2, 3, 4, 5]
        spans = make.rows("select args from jobs where kind = 'webhook.fan_out' order by id")
        assert [(row.args["first"], row.args["last"]) for row in spans] == [(1, 5), (3, 5), (5, 5)]

    def test_what_is_sent_is_the_event(self, hooks: Hooks):
        hooks.register()
        hooks.happen()
        hooks.work.drain()
        [event] = hooks.events()
        [call] = hooks.receiver.calls
        assert call.event == {
            "type": "package.created",
            "timestamp": event["timestamp"],
            "store_id": str(hooks.store.id),
            "seq": 1,
            "data": event["data"],
        }
        assert call.headers["webhook-id"] == event["id"]
        assert call.path == "/hooks?k=1"

    def test_a_trace_goes_on_into_the_webhook(self, hooks: Hooks):
        hooks.register()
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        package = {"name": "Gold", "amount": 1500, "interval": "month"}
        hooks.send("POST", "/packages", package, traceparent=trace)
        hooks.work.drain()
        assert hooks.receiver.calls[0].headers["traceparent"] == trace


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

    def test_a_receiver_that_is_slow_is_left(self, configured: Callable[..., Flask], hooks: Hooks, servers: Servers):
        app = configured(webhook_timeout_s=0.3)
        hooks.register()
        hooks.receiver.delay_s = 1
        hooks.happen()
        started = time.monotonic()
        with closing(Redis.from_url(servers.redis_url)) as redis:
            Work(app, redis, hooks.make).drain()
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


class TestDisabling:
    def test_410_disables_at_once_and_its_owner_is_told(self, hooks: Hooks, mailbox):
        endpoint = hooks.register()
        hooks.receiver.always(410)
        hooks.happen(2)
        hooks.work.drain()
        assert len(hooks.receiver.calls) == 1
        found = hooks.endpoint(endpoint["id"])
        assert (found["enabled"], found["disabled_reason"]) == (False, "gone")
        assert [(d["status"], d["failure_code"]) for d in hooks.deliveries()] == [
            ("failed", "gone"),
            ("failed", "endpoint_disabled"),
        ]
        [mail] = mailbox.mails()
        assert mail["Delivered-To"] == "olga@example.com"
        assert "410 Gone" in mail.get_body(("plain",)).get_content()
        hooks.happen()
        hooks.work.drain()
        assert len(hooks.deliveries()) == 2

    def test_who_disables_an_endpoint_stops_its_deliveries(self, hooks: Hooks):
        endpoint = hooks.register()
        hooks.receiver.always(500)
        hooks.happen()
        hooks.work.drain()
        hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"enabled": False})
        hooks.work.hurry()
        assert len(hooks.receiver.calls) == 1
        delivery = hooks.delivery()
        assert (delivery["status"], delivery["failure_code"]) == ("failed", "endpoint_disabled")

    def since(self, hooks: Hooks, days: float) -> None:
        hooks.make.rows(
            "update webhook_endpoints set failing_since = now() - make_interval(secs => %(s)s)", {"s": days * 86_400}
        )

    def test_the_owner_is_told_after_a_day_of_failure_and_once(self, hooks: Hooks, mailbox):
        endpoint = hooks.register(description="Till at the door")
        hooks.receiver.always(500)
        hooks.happen(2)
        hooks.work.drain()
        assert mailbox.mails() == []
        self.since(hooks, 1)
        hooks.work.hurry()
        hooks.work.hurry()
        [mail] = mailbox.mails()
        assert mail["Subject"] == "Webhooks of Climbing Hall are failing"
        text = mail.get_body(("plain",)).get_content()
        assert f"127.0.0.1:{hooks.receiver.port}" in text
        assert "Till at the door" in text
        assert endpoint["id"] in text
        assert "k=1" not in text
        assert hooks.endpoint(endpoint["id"])["enabled"]

    def test_an_owner_whose_address_nobody_proved_is_told_without_anybodys_words(self, hooks: Hooks, mailbox):
        endpoint = hooks.register(description="Log in at evil.example")
        hooks.make.rows("update users set email_verified_at = null")
        hooks.receiver.always(410)
        hooks.happen()
        hooks.work.drain()
        [mail] = mailbox.mails()
        assert mail["Subject"] == "A webhook endpoint of your store was disabled"
        text = mail.get_body(("plain",)).get_content()
        assert endpoint["id"] in text
        for words in ("evil", "Climbing Hall", "Olga", f":{hooks.receiver.port}"):
            assert words not in text
            assert words not in mail.get_body(("html",)).get_content()

    def test_the_owner_is_told_when_a_delivery_is_given_up(self, hooks: Hooks, mailbox):
        hooks.register()
        hooks.receiver.always(500)
        hooks.happen()
        for _ in range(10):
            hooks.work.hurry()
        assert hooks.delivery()["status"] == "failed"
        assert len(mailbox.mails()) == 1

    def test_after_five_days_of_nothing_but_failure_it_is_disabled(self, hooks: Hooks, mailbox):
        endpoint = hooks.register()
        hooks.receiver.always(500)
        hooks.happen()
        hooks.work.drain()
        self.since(hooks, 5)
        hooks.work.hurry()
        found = hooks.endpoint(endpoint["id"])
        assert (found["enabled"], found["disabled_reason"]) == (False, "failing")
        [mail] = mailbox.mails()
        assert mail["Subject"] == "A webhook endpoint of Climbing Hall was disabled"
        hooks.work.hurry()
        assert hooks.delivery()["failure_code"] == "endpoint_disabled"


class TestAReceiverThatDoesNotAnswer:
    def test_is_left_alone_and_that_is_no_attempt(self, hooks: Hooks, make: Factory):
        hooks.register()
        hooks.receiver.hang_up()
        hooks.happen(8)
        hooks.work.drain()
        assert len(hooks.receiver.calls) == 5
        left = [delivery for delivery in hooks.deliveries() if delivery["failure_code"] == "circuit_open"]
        assert [len(delivery["attempts"]) for delivery in left] == [0, 0, 0]
        assert {delivery["next_attempt_at"] for delivery in left} == {None}
        assert {hooks.job_of(delivery).attempt for delivery in left} == {0}
        metrics = hooks.client.get("/metrics").text
        assert "dues_webhook_endpoints_left_alone 1.0" in metrics
        assert str(hooks.receiver.port) not in metrics

    def test_another_path_of_its_host_is_called_at_once(self, hooks: Hooks, make: Factory):
        """Several stores may have receivers at one host; what the one's does is nothing to the other's."""
        host = f"http://127.0.0.1:{hooks.receiver.port}"
        hooks.receiver.answer = lambda call: None if call.path == "/late" else Answer()
        late = hooks.register(url=f"{host}/late")
        hooks.happen(6)
        hooks.work.drain()
        assert "circuit_open" in {delivery["failure_code"] for delivery in hooks.deliveries()}
        hooks.receiver.calls.clear()
        other = Hooks(hooks.app, hooks.receiver, make, hooks.work, "otto@example.com")
        other.register(url=f"{host}/of-another-store")
        hooks.register(url=f"{host}/of-the-same-store")
        hooks.happen()
        other.happen()
        hooks.work.drain()
        assert sorted(call.path for call in hooks.receiver.calls) == ["/of-another-store", "/of-the-same-store"]
        failing = make.rows("select id::text from webhook_endpoints where failing_since is not null")
        assert failing == [Row(id=late["id"])]

    def test_what_was_not_tried_is_held_against_nobody(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register()
        make.insert(
            "circuit_breakers",
            {
                "name": f"webhook:{endpoint['id']}",
                "failures": 5,
                "open_until": datetime.now(UTC) + timedelta(hours=1),
                "updated_at": datetime.now(UTC),
            },
        )
        hooks.happen()
        hooks.work.drain()
        assert hooks.receiver.calls == []
        assert hooks.delivery()["failure_code"] == "circuit_open"
        assert hooks.endpoint(endpoint["id"])["failing_since"] is None

    def test_a_delivery_that_only_took_workers_down_is_held_against_nobody(self, hooks: Hooks, make: Factory, mailbox):
        endpoint = hooks.register()
        hooks.happen()
        hooks.work.drain()
        make.rows("update webhook_deliveries set status = 'pending', attempts = '[]'")
        job = hooks.job_of(hooks.delivery())
        with hooks.app.app_context(), transaction():
            give_up(Ending(job.id, job.kind, job.args, "failed", WORKER_LOST))
        assert hooks.delivery()["status"] == "failed"
        assert hooks.endpoint(endpoint["id"])["failing_since"] is None
        assert mailbox.mails() == []

    def test_a_new_url_is_called_at_once(self, hooks: Hooks):
        endpoint = hooks.register()
        hooks.receiver.hang_up()
        hooks.happen(6)
        hooks.work.drain()
        hooks.receiver.always(204)
        hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"url": hooks.receiver.url + "&moved=1"})
        hooks.work.hurry()
        assert {delivery["status"] for delivery in hooks.deliveries()} == {"succeeded"}

    def test_is_asked_again_and_then_gets_everything(self, hooks: Hooks, make: Factory):
        hooks.register()
        hooks.receiver.hang_up()
        hooks.happen(8)
        hooks.work.drain()
        hooks.receiver.always(204)
        make.rows("update circuit_breakers set open_until = now()")
        hooks.work.hurry()
        assert {delivery["status"] for delivery in hooks.deliveries()} == {"succeeded"}
        assert make.rows("select 1 from circuit_breakers") == []

    def test_one_that_answers_is_there_whatever_it_answers(self, hooks: Hooks):
        hooks.register()
        hooks.receiver.always(500)
        hooks.happen(8)
        hooks.work.drain()
        assert len(hooks.receiver.calls) == 8


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
    scale: int, configured: Callable[..., Flask], receiver: Receiver, servers: Servers, make: Factory
):
    """All times divided by `scale`: what happens before, during and after the day arrives."""
    app, day_s = configured(webhook_retry_scale=scale), 86_400 / scale
    with closing(Redis.from_url(servers.redis_url)) as redis:
        hooks = Hooks(app, receiver, make, Work(app, redis, make))
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
        assert last > 10
        assert numbers == set(range(1, last + 1))
        assert make.rows("select distinct status from webhook_deliveries") == [Row(status="succeeded")]


class TestABusyHost:
    def test_is_left_to_those_who_are_at_it(self, hooks: Hooks):
        hooks.register()
        hooks.happen(2)
        most = settings_of(hooks).webhooks_per_host
        with ExitStack() as stack:
            for _ in range(most):
                assert stack.enter_context(hosts.place("127.0.0.1", hooks.store.id, most))
            hooks.work.drain()
            assert hooks.receiver.calls == []
            delivery = hooks.deliveries()[0]
            assert (delivery["status"], delivery["failure_code"], delivery["attempts"]) == ("pending", "host_busy", [])
            assert 4 < waited(delivery) < 8
            assert hooks.job_of(delivery).attempt == 0
        hooks.work.hurry()
        assert {delivery["status"] for delivery in hooks.deliveries()} == {"succeeded"}

    def test_takes_one_of_each_store_all_the_same(self, hooks: Hooks, make: Factory):
        endpoint = hooks.register()
        hooks.happen()
        others = make.store()
        most = settings_of(hooks).webhooks_per_host
        with ExitStack() as stack:
            for _ in range(most):
                assert stack.enter_context(hosts.place("127.0.0.1", others.id, most))
            assert not stack.enter_context(hosts.place("127.0.0.1", others.id, most))
            hooks.work.drain()
        assert hooks.delivery()["status"] == "succeeded"
        assert hooks.endpoint(endpoint["id"])["failing_since"] is None
        assert vars(hosts)["_of_host"] == vars(hosts)["_of_store"] == {}


def settings_of(hooks: Hooks) -> Settings:
    settings: Settings = hooks.app.extensions["settings"]
    return settings
