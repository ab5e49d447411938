"""What comes in from outside for a store that moves: told so that it is sent again, or passed on; never lost."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace as Row
from typing import Any

import msgspec
import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from dues.ids import new_id
from dues.mailings.models import Mailing
from dues.mailings.recipients import dedupe_key
from dues.mailings.unsubscribing import Reader, write_token
from dues.webhooks.signing import signature
from local.ports import free_port
from tests.billing.conftest import Club
from tests.moves.conftest import ADDRESS, STRIPE_SECRET, End, add_account
from tests.payments.stripe_stand_in import signed

PROVIDER_SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSBwcm92aWRlciwgMzIgYnl0ZXM="
FORM = "application/x-www-form-urlencoded"
ONE_CLICK: dict[str, Any] = {"data": "List-Unsubscribe=One-Click", "content_type": FORM}
MULTIPART: dict[str, Any] = {"data": {"List-Unsubscribe": "One-Click"}, "content_type": "multipart/form-data"}


class Outside:
    """Stripe, the mail provider and readers, who know the store's paths at the Dues that it leaves."""

    def __init__(self, shop: Club, client: FlaskClient) -> None:
        self.shop, self.client = shop, client
        self.reader, self.author = shop.make.user(), shop.owner
        self.mailing = self._mail(shop.store)
        self.token = write_token(Reader(shop.store.id, self.reader.id, self.mailing.id))

    def _mail(self, store: Row) -> Row:
        """A mailing of a post that `reader` has got."""
        make = self.shop.make
        named = {"store_id": store.id, "post_id": make.post(self.author, store=store).id}
        values = {"id": new_id(), "requested_by": self.author.id, "subject": "", "body": "", "status": "succeeded"}
        mailing = make.insert("mailings", named | values)
        recipient = {"user_id": self.reader.id, "mailing_id": mailing.id, "domain": "example.com", "status": "sent"}
        make.insert("mailing_recipients", named | recipient)
        sent = {"recipient": self.reader.email, "raw": b"", "state": "sent"}
        named_so = dedupe_key(Mailing(store_id=store.id, post_id=mailing.post_id), self.reader.id)
        mailing.email_id = make.insert("email_sends", sent | {"id": new_id(), "dedupe_key": named_so}).id
        return mailing

    def stripe(self, end: End) -> TestResponse:
        """Each time another event."""
        metadata = {"dues_store": str(self.shop.store.id), "dues_payment": str(new_id())}
        event = {"id": f"evt_{new_id().hex}", "type": "payment_intent.succeeded"}
        body, headers = signed(event | {"data": {"object": {"id": "pi_1", "metadata": metadata}}}, STRIPE_SECRET)
        path = f"/v1/gateways/stripe/{self.shop.store.id}"
        return end.app.test_client().post(path, data=body, headers=headers)

    def bounce(self, *mailings: Row) -> TestResponse:
        events = [{"type": "bounced", "message_id": f"<{each.email_id}@dues.example>"} for each in mailings]
        body, id_, timestamp = ujson.dumps({"events": events}).encode(), new_id().hex, str(int(time.time()))
        signed_so = signature(PROVIDER_SECRET, id_, timestamp, body)
        headers = {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": signed_so}
        return self.client.post("/v1/mail-events", data=body, headers=headers | {"Content-Type": "application/json"})

    def open_link(self) -> TestResponse:
        return self.client.get(f"/v1/unsubscribe?token={self.token}")

    def press_button(self) -> TestResponse:
        return self.client.post(f"/v1/unsubscribe?token={self.token}")

    def take_back(self) -> TestResponse:
        return self.client.post(f"/v1/unsubscribe?token={self.token}", data="again=yes", content_type=FORM)

    def click_once(self, form: dict[str, Any]) -> TestResponse:
        return self.client.post(f"/v1/unsubscribe?token={self.token}", **form)

    def suppressed(self, end: End) -> list[str]:
        rows = end.make.rows("select reason from mail_suppressions where store_id = %(id)s", {"id": self.shop.store.id})
        return [row.reason for row in rows]


@pytest.fixture
def outside(app: Flask, client: FlaskClient, shop: Club, monkeypatch: pytest.MonkeyPatch) -> Outside:
    settings = msgspec.structs.replace(app.extensions["settings"], mail_events_secret=PROVIDER_SECRET)
    monkeypatch.setitem(app.extensions, "settings", settings)
    add_account(shop, new_id())
    with app.app_context():
        return Outside(shop, client)


@contextmanager
def serving(end: End, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An end that answers on a port. Yields: its URL, which it also tells the other end."""
    server = make_server("127.0.0.1", 0, end.app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    settings = msgspec.structs.replace(end.app.extensions["settings"], public_url=url)
    monkeypatch.setitem(end.app.extensions, "settings", settings)
    try:
        yield url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_whoever_calls_is_told_to_come_again_or_where_to_go(
    outside: Outside, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, tuple[int, ...]] = {}

    def ask(phase: str) -> None:
        answers = (
            outside.stripe(here),
            outside.bounce(outside.mailing),
            outside.open_link(),
            outside.take_back(),
            outside.press_button(),
        )
        told[phase] = tuple(answer.status_code for answer in answers)
        for answer in answers:
            assert (answer.status_code == 503) == ("Retry-After" in answer.headers)

    here.at_each_phase(monkeypatch, ask)
    here.move(outside.shop.store, elsewhere)
    ask("gone")
    assert told == {
        "holding": (204, 503, 200, 200, 200),
        "copying": (503, 503, 200, 503, 503),
        "switching": (503, 503, 503, 503, 503),
        # Whose mail it was that bounced is known only there: a job passes it on.
        "gone": (421, 204, 308, 308, 308),
    }
    moved = outside.stripe(here).json or {}
    assert (moved["code"], moved["address"]) == ("store_moved", ADDRESS)
    # What was taken while jobs were held is acted on there, and what is sent there from now on as well.
    jobs = "select count(*) from jobs where kind = 'gateway.news' and queue = 'critical'"
    assert elsewhere.make.value(jobs) == elsewhere.make.value("select count(*) from gateway_events") == 1
    assert outside.stripe(elsewhere).status_code == 204
    assert elsewhere.make.value(jobs) == 2


def test_a_report_is_kept_for_all_other_stores(outside: Outside, here: End) -> None:
    make = here.make
    other = outside._mail(make.store(outside.author))
    bounced = "select bounced from mailings where id = any(%(ids)s) order by id"
    ids = [outside.mailing.id, other.id]
    with here.fenced(outside.shop.store):
        for _ in range(2):
            assert outside.bounce(outside.mailing, other).status_code == 503
        assert [row.bounced for row in make.rows(bounced, {"ids": ids})] == [0, 1]
    assert outside.bounce(outside.mailing, other).status_code == 204
    assert [row.bounced for row in make.rows(bounced, {"ids": ids})] == [1, 1]


def test_a_report_about_a_store_that_has_left_is_passed_on(
    outside: Outside, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other end has no secret of a provider's. Where nobody knows the mail, it goes to and fro only so often."""
    with serving(elsewhere, monkeypatch) as url:
        here.move(outside.shop.store, elsewhere)
        # There is a store that has moved from there, too: to where nobody knows its mails.
        elsewhere.make.insert("store_moves", {"store_id": new_id(), "id": new_id(), "state": "gone", "address": url})
        for _ in range(2):
            assert outside.bounce(outside.mailing).status_code == 204
        (job,) = here.make.rows("select * from jobs where kind = 'mailing.report_elsewhere'")
        assert (job.store_id, job.args["passed_on"]) == (None, 1)
        outside.shop.work.drain()
        assert outside.suppressed(elsewhere) == ["bounced"]
        assert elsewhere.make.rows("select * from jobs where kind = 'mailing.report_elsewhere'") == []
        assert outside.bounce(Row(email_id=new_id())).status_code == 204
        outside.shop.work.drain()
        elsewhere.work.drain()
        passed = elsewhere.make.rows("select * from jobs where kind = 'mailing.report_elsewhere' order by id")
        assert [(job.args["passed_on"], job.status) for job in passed] == [(2, "succeeded"), (3, "succeeded")]
        # As many as a report may hold, of which a job's arguments hold a few.
        most = [Row(email_id=new_id()) for _ in range(1000)]
        assert outside.bounce(*most).status_code == 204
        waiting = here.make.rows("select args from jobs where kind = 'mailing.report_elsewhere' and status = 'queued'")
        assert sorted(id_ for job in waiting for id_ in job.args["email_ids"]) == [str(each.email_id) for each in most]
        # Whoever has not the key cannot say that it was passed on.
        forged = {"webhook-id": f"dues-passed-on-1-{'0' * 32}", "webhook-timestamp": str(int(time.time()))}
        answer = elsewhere.app.test_client().post(
            "/v1/mail-events", json={"events": []}, headers=forged | {"webhook-signature": "v1,AAAA"}
        )
        assert answer.status_code == 401


def test_another_dues_that_does_not_answer_is_left_alone(outside: Outside, here: End) -> None:
    """And no mail waits for it: however many bounces are reported meanwhile."""
    nobody = f"http://127.0.0.1:{free_port()}"
    here.make.insert("store_moves", {"store_id": new_id(), "id": new_id(), "state": "gone", "address": nobody})
    for _ in range(7):
        assert outside.bounce(Row(email_id=new_id())).status_code == 204
    outside.shop.work.drain()
    jobs = here.make.rows("select * from jobs where kind = 'mailing.report_elsewhere' order by id")
    assert {job.queue for job in jobs} == {"webhooks"}
    assert [(job.attempt, job.waits_for) for job in jobs[:5]] == [(1, None)] * 5
    assert [(job.attempt, job.waits_for) for job in jobs[5:]] == [(0, f"dues:{nobody[7:]}")] * 2


def test_one_click_is_never_redirected_and_does_what_it_says_where_the_store_is(
    outside: Outside, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    with here.fenced(outside.shop.store):
        for _ in range(2):
            assert outside.click_once(ONE_CLICK).status_code == 200
        outside.shop.work.drain()
        # It waits for the move's end, and no attempt is counted.
        (job,) = here.make.rows("select * from jobs where kind = 'mailing.unsubscribe_elsewhere'")
        assert (job.status, job.attempt, job.store_id) == ("queued", 0, None)
        assert "moved" in job.error["detail"]
    outside.shop.work.hurry()
    assert outside.suppressed(here) == ["unsubscribed"]
    assert outside.take_back().status_code == 200
    with serving(elsewhere, monkeypatch) as url:
        assert here.move(outside.shop.store, elsewhere) == url
        assert outside.suppressed(elsewhere) == []
        assert outside.click_once(MULTIPART).status_code == 200
        outside.shop.work.drain()
        assert outside.suppressed(elsewhere) == ["unsubscribed"]
    # Nobody answers there: it is tried again.
    assert outside.click_once(ONE_CLICK).status_code == 200
    outside.shop.work.drain()
    (job,) = here.make.rows("select * from jobs where kind = 'mailing.unsubscribe_elsewhere' and status = 'queued'")
    assert (job.attempt, job.error["type"]) == (1, "/problems/not_passed_on")


def test_links_that_prove_an_address_are_a_person_s_and_not_the_store_s(
    shop: Club, here: End, elsewhere: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was mailed a code uses it at the Dues that the mail came from, whatever becomes of the store."""
    told, phases = [], ("holding", "copying", "switching", "gone")
    members = {phase: shop.make.user(email_verified_at=None) for phase in phases}
    for member in members.values():
        shop.make.customer(shop.store, member)

    def confirm(phase: str) -> None:
        body = {"code": shop.make.code(members[phase], "verify-email")}
        told.append(shop.client.post("/v1/email-verifications/confirmations", json=body).status_code)

    here.at_each_phase(monkeypatch, confirm)
    here.move(shop.store, elsewhere)
    confirm("gone")
    assert told == [204] * 4
