"""Signatures: what a receiver with the library of Standard Webhooks says of them."""

from base64 import b64decode
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dues.ids import new_id
from dues.webhooks.endpoints import MOST_SECRETS
from dues.webhooks.signing import signed_headers, write_secret
from tests.webhooks.hooks import Hooks

SEED = bytes(range(32))


def test_a_secret_is_32_bytes_and_follows_from_its_seed_and_endpoint():
    endpoint_id = new_id()
    secret = write_secret(SEED, endpoint_id)
    assert secret.startswith("whsec_")
    assert len(b64decode(secret.removeprefix("whsec_"))) == 32
    assert secret == write_secret(SEED, endpoint_id)
    assert secret not in (write_secret(SEED, new_id()), write_secret(SEED[::-1], endpoint_id))


def test_the_example_of_the_specification():
    secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
    body = b'{"email":"test@example.com","username":"test_user"}'
    signed = signed_headers([secret], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1649367553, body)  # type: ignore[arg-type]
    assert signed == {
        "webhook-id": "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "webhook-timestamp": "1649367553",
        "webhook-signature": "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    }


def test_the_library_verifies_what_is_delivered(hooks: Hooks):
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    [call] = hooks.receiver.calls
    assert Webhook(endpoint["secret"]).verify(call.body, call.headers) == call.event
    assert call.headers["content-type"] == "application/json"


def test_and_nothing_else(hooks: Hooks):
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    [call] = hooks.receiver.calls
    verify = Webhook(endpoint["secret"]).verify
    timestamp = int(call.headers["webhook-timestamp"])
    for body, changed in (
        (call.body + b" ", {}),
        (call.body, {"webhook-id": str(new_id())}),
        (call.body, {"webhook-timestamp": str(timestamp + 1)}),
        (call.body, {"webhook-timestamp": str(timestamp - 86_400)}),
        (call.body, {"webhook-signature": "v1,AAAA"}),
    ):
        with pytest.raises(WebhookVerificationError):
            verify(body, call.headers | changed)


def test_an_attempt_has_a_timestamp_of_its_own_and_the_event_its_id(hooks: Hooks, make):
    hooks.register()
    hooks.receiver.always(500)
    hooks.happen()
    hooks.work.drain()
    first = hooks.receiver.calls[0].headers
    make.rows("select pg_sleep(1.01)")
    hooks.work.hurry()
    second = hooks.receiver.calls[1].headers
    assert second["webhook-id"] == first["webhook-id"] == hooks.events()[0]["id"]
    assert int(second["webhook-timestamp"]) > int(first["webhook-timestamp"])
    assert second["webhook-signature"] != first["webhook-signature"]


class TestRotation:
    def rotate(self, hooks: Hooks, endpoint: dict[str, Any], **headers: str) -> dict[str, Any]:
        answer = hooks.send("POST", f"/webhook-endpoints/{endpoint['id']}/secrets", **headers)
        assert answer.status_code == 201, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.json or {}

    def delivered(self, hooks: Hooks):
        hooks.receiver.calls.clear()
        hooks.happen()
        hooks.work.drain()
        [call] = hooks.receiver.calls
        return call

    def test_both_secrets_sign_for_a_day(self, hooks: Hooks, make):
        endpoint = hooks.register()
        rotated = self.rotate(hooks, endpoint)
        assert rotated["secret"] != endpoint["secret"]
        assert rotated["previous_secret_until"] > rotated["updated_at"]
        call = self.delivered(hooks)
        assert len(call.headers["webhook-signature"].split()) == 2
        for secret in (endpoint["secret"], rotated["secret"]):
            Webhook(secret).verify(call.body, call.headers)

    def test_then_only_the_new_one(self, hooks: Hooks, make):
        endpoint = hooks.register()
        rotated = self.rotate(hooks, endpoint)
        make.rows("update webhook_endpoints set previous_secret_until = now() - interval '1 s'")
        call = self.delivered(hooks)
        assert len(call.headers["webhook-signature"].split()) == 1
        Webhook(rotated["secret"]).verify(call.body, call.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(endpoint["secret"]).verify(call.body, call.headers)

    def test_rotated_again_within_a_day_all_of_them_sign(self, hooks: Hooks):
        """A receiver that has any of them keeps working, however often a client tried again."""
        endpoint = hooks.register()
        issued = [endpoint, *(self.rotate(hooks, endpoint) for _ in range(MOST_SECRETS - 1))]
        call = self.delivered(hooks)
        assert len(call.headers["webhook-signature"].split()) == MOST_SECRETS
        for secret in (each["secret"] for each in issued):
            Webhook(secret).verify(call.body, call.headers)

    def test_so_many_and_no_more(self, hooks: Hooks, make):
        endpoint = hooks.register()
        for _ in range(MOST_SECRETS - 1):
            self.rotate(hooks, endpoint)
        answer = hooks.send("POST", f"/webhook-endpoints/{endpoint['id']}/secrets")
        assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_webhook_secrets")
        [oldest] = make.rows("select older_secrets -> 0 ->> 'until' as until from webhook_endpoints")
        assert oldest.until in (answer.json or {})["detail"]
        # Its day is over: there is room for one, and it signs no more.
        make.rows(
            "update webhook_endpoints set older_secrets ="
            " jsonb_set(older_secrets, '{0,until}', to_jsonb(now() - interval '1 s'))"
        )
        rotated = self.rotate(hooks, endpoint)
        call = self.delivered(hooks)
        assert len(call.headers["webhook-signature"].split()) == MOST_SECRETS
        Webhook(rotated["secret"]).verify(call.body, call.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(endpoint["secret"]).verify(call.body, call.headers)

    def test_the_same_request_again_shows_the_same_secret(self, hooks: Hooks):
        endpoint = hooks.register()
        first = self.rotate(hooks, endpoint, Idempotency_Key="rotate-1")
        again = self.rotate(hooks, endpoint, Idempotency_Key="rotate-1")
        assert again == first
        call = self.delivered(hooks)
        for secret in (endpoint["secret"], first["secret"]):
            Webhook(secret).verify(call.body, call.headers)
