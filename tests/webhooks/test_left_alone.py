"""Receivers that do not answer, and hosts that are busy: they are left alone for a while, which is no attempt."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row

from config import Settings
from dues.jobs import Ending
from dues.jobs.exceptions import WORKER_LOST
from dues.postgres import transaction
from dues.webhooks.deliveries import give_up
from dues.webhooks.hosts import hosts
from tests.factory import Factory
from tests.webhooks.hooks import Hooks, waited
from tests.webhooks.receiver import Answer


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
