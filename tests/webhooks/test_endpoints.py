"""Endpoints over HTTP: registered, changed, deleted; their secrets stand in one answer."""

from typing import Any
from unittest.mock import ANY

import pytest

from dues.webhooks import outbound
from dues.webhooks.endpoints import MOST_ENDPOINTS
from tests.factory import Factory
from tests.recorder import QueryRecorder
from tests.webhooks.hooks import Hooks


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {fault["pointer"]: fault["code"] for fault in answer.json["errors"]}


class TestRegistering:
    def test_an_endpoint_and_its_secret(self, hooks: Hooks):
        body = {"url": hooks.receiver.url, "events": ["refund.created", "payment.created"], "description": "Till"}
        answer = hooks.send("POST", "/webhook-endpoints", body)
        assert answer.status_code == 201
        assert answer.headers["Cache-Control"] == "no-store"
        endpoint = answer.json or {}
        path = f"{hooks.path}/webhook-endpoints/{endpoint['id']}"
        assert endpoint == {
            "id": ANY,
            "store_id": str(hooks.store.id),
            "url": hooks.receiver.url,
            "description": "Till",
            "events": ["payment.created", "refund.created"],
            "enabled": True,
            "disabled_reason": None,
            "failing_since": None,
            "previous_secret_until": None,
            "version": 1,
            "created_at": ANY,
            "updated_at": ANY,
            "links": {"self": path, "deliveries": f"{hooks.path}/webhook-deliveries?endpoint_id={endpoint['id']}"},
            "secret": ANY,
        }
        assert answer.headers["Location"] == path
        del endpoint["secret"]
        assert hooks.endpoint(endpoint["id"]) == endpoint
        assert hooks.get("/webhook-endpoints")["data"] == [endpoint]

    def test_as_little_as_it_takes_is_a_url(self, hooks: Hooks):
        answer = hooks.send("POST", "/webhook-endpoints", {"url": hooks.receiver.url})
        assert (answer.json or {})["events"] == ["*"]

    def test_no_read_shows_a_secret(self, hooks: Hooks, make: Factory):
        secret = hooks.register()["secret"]
        hooks.happen()
        hooks.work.drain()
        kept = make.value("select secret from webhook_endpoints")
        assert kept == secret
        delivery = hooks.delivery()
        for path in (
            "/webhook-endpoints",
            "/webhook-deliveries?include=endpoint,event",
            f"/webhook-deliveries/{delivery['id']}?include=endpoint",
            "/events",
        ):
            answer = hooks.send("GET", path)
            assert answer.status_code == 200
            assert secret.removeprefix("whsec_")[:12] not in answer.text
        assert hooks.send("GET", "/webhook-endpoints?fields=secret").status_code == 400

    def test_the_same_request_again_shows_the_same_secret_which_is_kept_nowhere_else(self, hooks: Hooks, make: Factory):
        body = {"url": hooks.receiver.url}
        first, again = (hooks.send("POST", "/webhook-endpoints", body, Idempotency_Key="register-1") for _ in range(2))
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json == first.json
        assert (first.json or {})["secret"] not in make.value("select body from idempotency_keys")

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({}, {"#/url": "required"}),
            ({"url": "", "events": [], "colour": 1}, {"#/url": "length", "#/events": "length", "#/colour": "unknown"}),
            ({"url": "https://example.com", "events": ["payment.made"]}, {"#/events/0": "choice"}),
            ({"url": "https://example.com", "events": "*"}, {"#/events": "type"}),
            ({"url": "ftp://example.com"}, {"#/url": "url_scheme"}),
            ({"url": "https://u:p@example.com"}, {"#/url": "url_credentials"}),
            ({"url": "https://10.0.0.1/"}, {"#/url": "url_forbidden_address"}),
            ({"url": "https://example.com:25/"}, {"#/url": "url_port"}),
            ({"url": "https://2130706433/"}, {"#/url": "url_malformed"}),
        ],
    )
    def test_what_is_wrong_is_told(self, body: dict[str, Any], expected: dict[str, str], hooks: Hooks):
        assert faults(hooks.send("POST", "/webhook-endpoints", body)) == expected

    def test_no_name_is_resolved(self, hooks: Hooks, monkeypatch: pytest.MonkeyPatch):
        """Whoever runs the name server would have a thread and a transaction wait for it."""
        asked: list[str] = []
        monkeypatch.setattr(outbound, "resolve", asked.append)
        answer = hooks.send("POST", "/webhook-endpoints", {"url": "https://slow.example/"})
        assert answer.status_code == 201
        path = f"/webhook-endpoints/{(answer.json or {})['id']}"
        assert hooks.send("PATCH", path, {"url": "https://slower.example/"}).status_code == 200
        assert asked == []

    def test_a_store_has_a_bounded_number(self, hooks: Hooks, make: Factory):
        for _ in range(MOST_ENDPOINTS - 1):
            make.endpoint(hooks.store)
        endpoint = hooks.register()
        answer = hooks.send("POST", "/webhook-endpoints", {"url": hooks.receiver.url})
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_webhook_endpoints")
        hooks.send("DELETE", f"/webhook-endpoints/{endpoint['id']}")
        hooks.register()


class TestChanging:
    def patch(self, hooks: Hooks, endpoint: dict[str, Any], **change: Any) -> dict[str, Any]:
        answer = hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", change)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def test_every_field_that_may(self, hooks: Hooks):
        endpoint = hooks.register()
        change = {
            "url": "https://1.1.1.1/x",
            "events": ["report.failed"],
            "description": "Reports",
            "enabled": False,
        }
        changed = self.patch(hooks, endpoint, **change)
        assert changed.items() >= change.items()
        assert changed["version"] == 2
        assert self.patch(hooks, endpoint, events=["*", "report.failed"])["events"] == ["*"]

    def test_a_hostile_url_is_refused_as_at_first(self, hooks: Hooks):
        endpoint = hooks.register()
        answer = hooks.send("PATCH", f"/webhook-endpoints/{endpoint['id']}", {"url": "http://[::1]/"})
        assert faults(answer) == {"#/url": "url_forbidden_address"}
        assert hooks.endpoint(endpoint["id"])["url"] == hooks.receiver.url

    def test_a_stale_version_is_refused(self, hooks: Hooks):
        endpoint = hooks.register()
        self.patch(hooks, endpoint, description="x")
        for method in ("PATCH", "DELETE"):
            answer = hooks.send(method, f"/webhook-endpoints/{endpoint['id']}", {}, If_Match='"1"')
            assert answer.status_code == 412

    def test_enabling_again_forgets_what_failed(self, hooks: Hooks, make: Factory):
        failed = {
            "enabled": False,
            "disabled_reason": "failing",
            "failing_since": "2026-01-01",
            "alerted_at": "2026-01-02",
        }
        endpoint = make.endpoint(hooks.store, **failed)
        changed = self.patch(hooks, {"id": endpoint.id}, enabled=True)
        assert (changed["enabled"], changed["disabled_reason"], changed["failing_since"]) == (True, None, None)
        assert make.value("select alerted_at from webhook_endpoints") is None

    def test_whether_anybody_listens_is_known(self, hooks: Hooks, make: Factory):
        def listened() -> bool:
            return bool(make.value("select listened from event_streams"))

        first, second = hooks.register(), hooks.register(enabled=False)
        seen = [listened()]
        self.patch(hooks, first, enabled=False)
        seen.append(listened())
        self.patch(hooks, second, enabled=True)
        seen.append(listened())
        hooks.send("DELETE", f"/webhook-endpoints/{second['id']}")
        seen.append(listened())
        assert seen == [True, False, True, False]


def test_a_deleted_endpoint_is_gone_with_its_secrets_and_what_it_got_is_not(hooks: Hooks, make: Factory):
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    path = f"/webhook-endpoints/{endpoint['id']}"
    for _ in range(2):
        hooks.send("POST", f"{path}/secrets")
    assert hooks.send("DELETE", path).status_code == 204
    for method, below in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/secrets"), ("POST", "/replays")):
        assert hooks.send(method, f"{path}{below}", None if method == "GET" else {}).status_code == 404
    assert hooks.get("/webhook-endpoints")["data"] == []
    assert make.rows("select secret, previous_secret, older_secrets from webhook_endpoints") == [
        make.rows("select '' as secret, null as previous_secret, '[]'::jsonb as older_secrets")[0]
    ]
    delivery = hooks.get("/webhook-deliveries?include=endpoint")["data"][0]
    assert (delivery["endpoint_id"], delivery["endpoint"]) == (endpoint["id"], None)
    assert hooks.send("POST", f"/webhook-deliveries/{delivery['id']}/replays").status_code == 404


@pytest.mark.usefixtures("spread")
def test_deliveries_include_their_endpoint_and_their_event(hooks: Hooks, make: Factory):
    endpoint = make.endpoint(hooks.store)
    events = [make.event(hooks.store) for _ in range(3)]
    made = [make.delivery(endpoint, event) for event in events]
    expected = [
        {"id": str(delivery.id), "endpoint": {"id": str(endpoint.id)}, "event": {"id": str(event.id), "seq": event.seq}}
        for delivery, event in zip(made, events, strict=True)
    ]
    asked = "include=endpoint,event&fields=id,endpoint.id,event.id,event.seq"
    for page in ("page=1", "cursor="):
        assert hooks.get(f"/webhook-deliveries?{page}&{asked}")["data"] == expected[::-1]
    assert [hooks.get(f"/webhook-deliveries/{each.id}?{asked}") for each in made] == expected


def test_lists_are_one_statement_each(hooks: Hooks, client, make: Factory, queries: QueryRecorder):
    endpoint = make.endpoint(hooks.store)
    for _ in range(3):
        make.delivery(endpoint, make.event(hooks.store))
    for path in ("/webhook-endpoints", "/webhook-deliveries?include=endpoint,event", "/events?cursor="):
        with queries() as seen:
            answer = client.get(f"{hooks.path}{path}", headers=hooks.auth)
            assert answer.status_code == 200
        # The other, if there is one, asks what the caller may do.
        assert len([statement for statement in seen if "token_hash" not in statement]) == 1, str(seen)


def test_events_are_read_in_their_order_and_after_a_number(hooks: Hooks):
    hooks.happen(5)
    first = hooks.get("/events?cursor=&limit=2")
    assert [event["seq"] for event in first["data"]] == [1, 2]
    second = hooks.client.get(first["links"]["next"], headers=hooks.auth).json or {}
    assert [event["seq"] for event in second["data"]] == [3, 4]
    assert [event["seq"] for event in hooks.get("/events?seq[gt]=3")["data"]] == [4, 5]
    assert [event["seq"] for event in hooks.get("/events?sort=-seq")["data"]] == [5, 4, 3, 2, 1]
    event = first["data"][0]
    assert event == {
        "id": ANY,
        "store_id": str(hooks.store.id),
        "seq": 1,
        "type": "package.created",
        "timestamp": ANY,
        "data": hooks.get(f"/packages/{event['data']['id']}"),
        "links": {"self": f"{hooks.path}/events?seq=1"},
    }
    assert hooks.get(event["links"]["self"].removeprefix(hooks.path))["data"] == [event]
