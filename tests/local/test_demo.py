"""The demo data: loaded once and whole, the same each time, never into a database that is somebody's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dues.billing.audit import audit
from dues.social.models import PRIVACIES
from local import demo_memberships, demo_social
from local.demo import MEMBER, OWNER, keep_log_ins, load
from tests.factory import Factory
from tests.servers import Servers

# Fewer than are loaded, to save time.
POSTS = 200


@pytest.fixture(autouse=True)
def in_app(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(demo_social, "POSTS", POSTS)
    monkeypatch.setattr(demo_memberships, "MEMBERS", 0)
    with app.app_context():
        yield


def loaded(payments: int | None) -> UUID:
    store_id = load(payments)
    assert store_id is not None
    return store_id


def test_is_loaded_once_and_added_to_when_more_is_asked_for(make: Factory) -> None:
    store_id = loaded(300)
    assert make.value("select count(*) from users") == 50
    assert make.value("select count(*) from stores") == 3
    assert make.value("select count(*) from payments where store_id = %(s)s", {"s": store_id}) == 300
    assert loaded(None) == store_id
    assert loaded(200) == store_id
    assert make.value("select count(*) from payments") == 300
    assert loaded(450) == store_id
    assert make.value("select count(*) from payments") == 450
    assert make.value("select count(*) from users") == 50


def test_the_same_data_comes_out_each_time(make: Factory, servers: Servers) -> None:
    data = (
        "select string_agg(concat_ws(',', u.email, u.name, p.amount, p.status, p.description), ';'"
        " order by p.created_at) from payments p join users u on u.id = p.user_id"
    )
    seen = set()
    for _ in range(2):
        loaded(200)
        seen.add(make.value(data))
        servers.clean()
    assert len(seen) == 1


def test_the_books_are_in_order(make: Factory) -> None:
    loaded(1000)
    statuses = {row.status for row in make.rows("select distinct status from payments")}
    assert statuses == {"succeeded", "failed", "refunded", "partially_refunded"}
    assert make.value("select max(created_at) - min(created_at) > interval '360 days' from payments")
    assert make.value("select bool_and(created_at <= updated_at and updated_at <= now()) from payments")
    following = "select id, lead(id) over (order by created_at) as next from payments"
    assert make.value(f"select bool_and(id < next) from ({following}) p")
    assert not make.rows(
        "select p.id from payments p left join refunds r on (r.store_id, r.payment_id) = (p.store_id, p.id)"
        " group by p.store_id, p.id having coalesce(sum(r.amount), 0) <> p.refunded_amount"
    )
    assert not make.rows(
        "select id from payments where (status = 'refunded') <> (refunded_amount = amount)"
        " or (status = 'partially_refunded') <> (refunded_amount between 1 and amount - 1)"
        " or (status = 'failed') <> (failure_code is not null)"
    )
    # The gateway knows each charge, so that it can be given back.
    assert not make.rows(
        "select p.id from payments p left join sandbox_gateway.operations o on o.key = p.id::text"
        " where o.reference is distinct from p.gateway_ref or (o.outcome = 'succeeded') = (p.status = 'failed')"
    )
    assert make.value("select count(*) from payment_events") == 1000
    assert audit() == []


def test_a_year_of_posts_with_what_was_made_of_them(client: FlaskClient, make: Factory, tmp_path: Path) -> None:
    store_id = loaded(10)
    posts = "select count(*) from posts"
    assert make.value(posts) == POSTS
    assert make.value(f"{posts} where store_id is not null") > POSTS / 10
    assert {row.privacy for row in make.rows("select distinct privacy from posts")} == set(PRIVACIES)
    assert not make.rows(
        "select p.id from posts p join post_stats s on s.post_id = p.id"
        " where s.likes <> (select count(*) from likes l where l.post_id = p.id)"
        " or s.comments <> (select count(*) from comments c where c.post_id = p.id)"
    )
    most, median = (
        make.value(f"select {what} from follow_stats")
        for what in ("max(followers)", "percentile_disc(0.5) within group (order by followers)")
    )
    assert most > 3 * median > 0
    [mailing] = make.rows("select * from mailings")
    assert (mailing.store_id, mailing.status, mailing.recipients) == (store_id, "succeeded", mailing.sent)
    reached = "select count(*) as sent, count(bounced_at) as bounced, count(unsubscribed_at) as unsubscribed"
    [counted] = make.rows(f"{reached} from mailing_recipients where status = 'sent'")
    assert (counted.sent, counted.bounced, counted.unsubscribed) == (mailing.sent, 1, 1)
    reasons = {row.reason for row in make.rows("select reason from mail_suppressions")}
    assert reasons == {"bounced", "unsubscribed"}
    loaded(None)
    assert make.value(posts) == POSTS
    keep_log_ins(tmp_path / "demo.json", store_id, "http://127.0.0.1:8000")
    token = json.loads((tmp_path / "demo.json").read_text())["member"]["token"]
    answer = client.get("/v1/newsfeed?include=author", headers={"Authorization": f"Bearer {token}"})
    assert (answer.json or {})["data"]


def test_a_database_with_users_of_its_own_is_left_alone(make: Factory) -> None:
    make.user()
    assert load(None) is None
    assert make.value("select count(*) from users") == 1
    assert make.value("select count(*) from stores") == 0


def test_log_ins_work_and_are_kept_while_they_do(client: FlaskClient, make: Factory, tmp_path: Path) -> None:
    store_id = loaded(10)
    path = tmp_path / "demo.json"
    keep_log_ins(path, store_id, "http://127.0.0.1:8000")
    first = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert {role: first[role]["email"] for role in ("owner", "member")} == {"owner": OWNER, "member": MEMBER}
    for role in ("owner", "member"):
        headers = {"Authorization": f"Bearer {first[role]['token']}"}
        assert (client.get("/v1/me", headers=headers).json or {})["email"] == first[role]["email"]
        credentials = {name: first[role][name] for name in ("email", "password")}
        assert client.post("/v1/tokens", json=credentials).status_code == 201
    report = f"/v1/stores/{store_id}/reports"
    statuses = [
        client.get(report, headers={"Authorization": f"Bearer {first[role]['token']}"}).status_code
        for role in ("owner", "member")
    ]
    assert statuses == [200, 403]

    keep_log_ins(path, store_id, "http://127.0.0.1:8001")
    assert json.loads(path.read_text()) == first | {"url": "http://127.0.0.1:8001"}

    for torn in ("", "{", "[]"):
        path.write_text(torn)
        keep_log_ins(path, store_id, "http://127.0.0.1:8000")
        first = json.loads(path.read_text())
        assert first["owner"]["email"] == OWNER

    make.rows("update api_tokens set revoked_at = now()")
    keep_log_ins(path, store_id, "http://127.0.0.1:8000")
    renewed = json.loads(path.read_text())
    assert renewed["owner"]["password"] == first["owner"]["password"]
    assert renewed["owner"]["token"] != first["owner"]["token"]

    path.unlink()
    keep_log_ins(path, store_id, "http://127.0.0.1:8000")
    anew = json.loads(path.read_text())
    assert anew["owner"]["password"] != first["owner"]["password"]
    credentials = {name: anew["owner"][name] for name in ("email", "password")}
    assert client.post("/v1/tokens", json=credentials).status_code == 201


def test_memberships_that_renew_fail_recover_and_leave(
    client: FlaskClient, make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_memberships, "MEMBERS", 12)
    store_id = loaded(10)
    assert audit() == []
    statuses = {row.status for row in make.rows("select distinct status from subscriptions")}
    assert statuses == {"active", "canceled"}
    kinds = {row.kind for row in make.rows("select distinct kind from subscription_changes")}
    assert kinds >= {"created", "activated", "renewed", "past_due", "recovered", "cancel_scheduled", "ended"}
    # All that is due is ahead, and numbers follow time.
    assert make.value("select bool_and(next_action_at > now()) from subscriptions where status = 'active'")
    assert make.value(
        "select bool_and(issued_at >= before) from (select issued_at, lag(issued_at)"
        " over (partition by store_id order by sequence) as before from invoices where sequence is not null) i"
        " where before is not null"
    )
    keep_log_ins(tmp_path / "demo.json", store_id, "http://127.0.0.1:8000")
    owner = json.loads((tmp_path / "demo.json").read_text())["owner"]["token"]
    for store in make.rows("select distinct store_id as id from subscriptions"):
        path = f"/v1/stores/{store.id}/metrics"
        rows = (client.get(path, headers={"Authorization": f"Bearer {owner}"}).json or {})["data"]
        assert rows[-1]["mrr"] > rows[-1]["committed_mrr"] > 0
        assert sum(row["recovered"] for row in rows) == sum(row["failed_payments"] for row in rows) > 0
    before = make.value("select count(*) from subscriptions")
    loaded(None)
    assert make.value("select count(*) from subscriptions") == before == 12
