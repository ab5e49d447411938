"""Endpoints that are disabled, and what their owners are told."""

from dataclasses import replace

import pytest

from dues.accounts import unverified
from tests.webhooks.hooks import Hooks


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

    def test_such_an_owner_gets_so_many_mails_a_day(self, hooks: Hooks, mailbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(unverified, "_NEWS", replace(unverified._NEWS, most=2))
        endpoint = hooks.register()
        hooks.make.rows("update users set email_verified_at = null")
        hooks.receiver.always(410)
        for _ in range(4):
            hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"enabled": True})
            hooks.happen()
            hooks.work.drain()
        assert not hooks.endpoint(endpoint["id"])["enabled"]
        assert len(mailbox.mails()) == 2

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
