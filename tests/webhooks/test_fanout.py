"""From an event to its deliveries: which endpoints are sent what."""

import pytest

from dues.packages.service import NewPackage, create_package
from dues.postgres import transaction
from tests.factory import Factory
from tests.webhooks.hooks import Hooks


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
