"""Bounces and complaints that the mail provider reports: signed, counted once, and nothing more is mailed there."""

import time
from types import SimpleNamespace as Row
from typing import Any

import msgspec
import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dues.ids import new_id
from dues.webhooks.signing import signature
from tests.mailings.conftest import Club, numbers

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwcm92aWRlciwgMzIgYnl0ZXM="


class Provider:
    """Reports what becomes of mails."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def headers(
        self, body: bytes, *, secret: str = SECRET, at: float | None = None, id_: str = "msg_1"
    ) -> dict[str, str]:
        timestamp = str(int(time.time() if at is None else at))
        return {
            "webhook-id": id_,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(secret, id_, timestamp, body),
            "Content-Type": "application/json",
        }

    def send(self, body: bytes, headers: dict[str, str]) -> TestResponse:
        return self._client.post("/v1/mail-events", data=body, headers=headers)

    def report(self, *events: dict[str, Any]) -> int:
        body = ujson.dumps({"events": events}).encode()
        return self.send(body, self.headers(body, id_=new_id().hex)).status_code


@pytest.fixture
def provider(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Provider:
    settings = msgspec.structs.replace(app.extensions["settings"], mail_events_secret=SECRET)
    monkeypatch.setitem(app.extensions, "settings", settings)
    return Provider(client)


@pytest.fixture
def reader(club: Club) -> Row:
    """Somebody who has got a post; `message_id` is their mail's."""
    user = club.member()
    mailing = club.mail(club.post())
    [mail] = club.mailbox.mails()
    return Row(user=user, mailing=mailing, message_id=str(mail["Message-ID"]))


def test_an_address_is_the_same_however_it_is_spelt(club: Club, provider: Provider) -> None:
    """Capitals that are not ASCII, which not every PostgreSQL knows to be small ones as well."""
    club.member(user=club.make.user(email="ÄDA@BÜCHER.example", email_normal="äda@xn--bcher-kva.example"))
    club.mail(club.post())
    [mail] = club.mailbox.mails()
    assert provider.report({"type": "bounced", "message_id": str(mail["Message-ID"])}) == 204
    assert numbers(club.mail(club.post())) == {}


@pytest.mark.parametrize("kind", ["bounced", "complained"])
def test_they_count_once_and_the_store_mails_no_more(kind: str, club: Club, reader: Row, provider: Provider) -> None:
    for message_id in (reader.message_id, reader.message_id.strip("<>")):
        assert provider.report({"type": kind, "message_id": message_id}) == 204
    assert numbers(club.read(reader.mailing)) == {"recipients": 1, "sent": 1, kind: 1}
    assert numbers(club.mail(club.post())) == {}
    # Other stores are nothing to it.
    assert [row.store_id for row in club.make.rows("select store_id from mail_suppressions")] == [club.store.id]


def test_a_bounce_is_of_an_address(club: Club, reader: Row, provider: Provider) -> None:
    provider.report({"type": "bounced", "message_id": reader.message_id})
    club.make.rows(
        "update users set email = 'new@example.com', email_normal = 'new@example.com' where id = %(id)s",
        {"id": reader.user.id},
    )
    assert numbers(club.mail(club.post())) == {"recipients": 1, "sent": 1}


def test_one_that_may_pass_is_no_reason(club: Club, reader: Row, provider: Provider) -> None:
    assert provider.report({"type": "bounced", "message_id": reader.message_id, "permanent": False}) == 204
    assert numbers(club.mail(club.post())) == {"recipients": 1, "sent": 1}


def test_they_may_come_in_any_order_and_before_the_mail_counts_as_sent(
    club: Club, reader: Row, provider: Provider
) -> None:
    club.make.rows("update mailing_recipients set status = 'pending'")
    events = [{"type": kind, "message_id": reader.message_id} for kind in ("complained", "bounced", "complained")]
    assert provider.report(*events) == 204
    found = numbers(club.read(reader.mailing))
    assert (found["bounced"], found["complained"]) == (1, 1)


def test_mails_that_are_no_mailings_are_passed_over(club: Club, reader: Row, provider: Provider) -> None:
    club.author.done("POST", club.beside(club.post(), "mailing-test"))
    club.work.drain()
    of_a_test = str(club.mailbox.mails()[-1]["Message-ID"])
    strange = [of_a_test, "nothing of ours", f"<{new_id()}@example.org>", "<>", "@", f"<{new_id().hex}@x>"]
    assert provider.report(*({"type": "bounced", "message_id": each} for each in strange)) == 204
    assert club.make.value("select count(*) from mail_suppressions") == 0


def test_what_is_not_signed_changes_nothing(club: Club, reader: Row, provider: Provider) -> None:
    body = ujson.dumps({"events": [{"type": "bounced", "message_id": reader.message_id}]}).encode()
    good = provider.headers(body)
    forged: dict[str, tuple[bytes, dict[str, str]]] = {
        "no headers": (body, {"Content-Type": "application/json"}),
        "another body": (body + b" ", good),
        "another secret": (body, provider.headers(body, secret="whsec_" + "A" * 44)),
        "another id": (body, {**good, "webhook-id": "msg_2"}),
        "no id": (body, provider.headers(body, id_="")),
        "another time": (body, {**good, "webhook-timestamp": str(int(time.time()) + 1)}),
        "too old": (body, provider.headers(body, at=time.time() - 301)),
        # A minute beyond what is allowed: on a busy machine a second passes before it is looked at.
        "of the future": (body, provider.headers(body, at=time.time() + 360)),
        "no number": (body, {**good, "webhook-timestamp": "now"}),
        "no version": (body, {**good, "webhook-signature": good["webhook-signature"].removeprefix("v1,")}),
        "empty": (body, {**good, "webhook-signature": ""}),
        "not ASCII": (body, {**good, "webhook-signature": "v1,ü"}),
        "not even JSON": (b"{", good),
    }
    for what, (sent, headers) in forged.items():
        answer = provider.send(sent, headers)
        assert (answer.status_code, (answer.json or {})["code"]) == (401, "unauthenticated"), what
    assert club.make.value("select count(*) from mail_suppressions") == 0
    rotated = {**good, "webhook-signature": f"v1,{'A' * 44}= {good['webhook-signature']}"}
    assert provider.send(body, rotated).status_code == 204


def test_what_is_signed_is_read_as_strictly_as_every_body(provider: Provider) -> None:
    for body in (b'{"events": []}', b'{"events": [{"type": "opened", "message_id": "x"}]}', b'{"x": 1}'):
        assert provider.send(body, provider.headers(body)).status_code == 422
    assert provider.send(b"{", provider.headers(b"{")).status_code == 400


def test_without_a_secret_nothing_is_taken(client: FlaskClient) -> None:
    body = b'{"events": [{"type": "bounced", "message_id": "x"}]}'
    assert Provider(client).send(body, Provider(client).headers(body)).status_code == 409
