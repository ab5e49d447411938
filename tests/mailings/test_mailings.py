"""A post by mail: who gets it, and that everybody gets it once."""

from datetime import UTC, datetime

import msgspec
import pytest
from flask import Flask

from dues.ids import new_id
from tests.contention import Contention
from tests.mailings.conftest import Club, numbers
from tests.social.conftest import People

# Who gets a store's post: those in whose newsfeed it stands, with an address that is theirs, who have not declined.
TABLE = """
#           follower gold silver lapsed blocked unverified deleted unsubscribed old_bounce support stranger brought came
public         x      x     x      -       -        -         -         -           x         -       -        -     x
followers      x      -     -      -       -        -         -         -           -         -       -        -     -
members        -      x     x      -       -        -         -         -           x         -       -        -     x
gold           -      x     -      -       -        -         -         -           x         -       -        -     x
silver+gold    -      x     x      -       -        -         -         -           x         -       -        -     x
"""
NAMES, *LINES = [line.lstrip("#").split() for line in TABLE.strip().splitlines()]


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_who_gets_it(line: list[str], club: Club) -> None:
    make = club.make
    people = {
        "follower": club.follower(),
        "gold": club.member("gold"),
        "silver": club.member("silver"),
        "lapsed": club.lapsed(),
        "blocked": club.member("gold"),
        "unverified": club.member(user=make.user(email_verified_at=None)),
        "deleted": club.member(user=make.user(deleted_at=datetime.now(UTC))),
        "unsubscribed": club.member(),
        "old_bounce": club.member(),
        "support": make.user(),
        "stranger": make.user(),
        # The store has imported them: one had an account already, the other got one by that, and verified it later.
        "brought": club.member(),
        "came": club.member(),
    }
    bring_along(club, people["brought"], "1 hour")
    bring_along(club, people["came"], "-1 hour")
    make.staff(club.store, people["support"])
    make.block(club.author.user, people["blocked"])
    suppress(club, people["unsubscribed"], "unsubscribed")
    # An address that this user has had before.
    suppress(club, people["old_bounce"], "bounced", address="before@example.com")
    tiers = [club.tiers[name].id for name in line[0].split("+") if name in club.tiers]
    post = club.post(privacy="members" if tiers else line[0], package_ids=tiers)

    mailing = club.mail(post)

    expected = [people[name].email for name, mark in zip(NAMES, line[1:], strict=True) if mark == "x"]
    assert club.reached() == sorted(expected)
    assert mailing["status"] == "succeeded"
    assert numbers(mailing) == {"recipients": len(expected), "sent": len(expected)}


def bring_along(club: Club, user, after: str) -> None:
    """A customer whom the store has named, so long after their address was verified."""
    club.make.rows(
        "update customers c set name = 'Somebody', email = u.email,"
        " created_at = (u.email_verified_at at time zone 'UTC' + %(after)s::interval) at time zone 'UTC'"
        " from users u where u.id = c.user_id and u.id = %(id)s",
        {"id": user.id, "after": after},
    )


def test_whoever_was_brought_along_gets_what_they_follow(club: Club) -> None:
    both = club.member(user=club.follower())
    bring_along(club, both, "1 hour")
    assert numbers(club.mail(club.post(privacy="public"))) == {"recipients": 1, "sent": 1}
    assert club.reached() == [both.email]


def suppress(club: Club, user, reason: str, address: str = "") -> None:
    values = {"store_id": club.store.id, "user_id": user.id, "reason": reason, "address": address or user.email}
    club.make.insert("mail_suppressions", values)


def test_what_cannot_be_mailed_is_refused(club: Club, people: People) -> None:
    club.member()
    elsewhere = club.make.store(club.owner.user)
    refused = {
        "draft": club.post(status="draft"),
        "scheduled": club.post(status="scheduled", publish_at="2030-01-01"),
        "private": club.post(privacy="private"),
    }
    codes = {what: club.author.refused("POST", club.path(post))[:2] for what, post in refused.items()}
    assert codes == {
        "draft": (409, "not_published"),
        "scheduled": (409, "not_published"),
        "private": (409, "no_recipients"),
    }
    others = [club.make.post(club.owner.user), club.make.post(club.owner.user, store=elsewhere)]
    for post in others:
        for method, what in (
            ("POST", "mailings"),
            ("POST", "mailing-test"),
            ("GET", "mailings"),
            ("GET", "mailing-preview"),
        ):
            assert club.owner.status(method, club.beside(post, what)) == 404, (method, what)
    # Of somebody else's post, those who see it learn that it is not theirs, and others nothing.
    strange = club.make.post(club.author.user, privacy="private")
    assert club.owner.status("POST", club.path(strange)) == 404
    club.work.drain()
    assert club.reached() == []


def test_a_post_is_mailed_to_nobody_twice(club: Club) -> None:
    first = club.member()
    post = club.post()
    answers = [club.author.send("POST", club.path(post), None, None, **{"Idempotency-Key": "once"}) for _ in range(2)]
    assert answers[0].json == answers[1].json
    assert club.author.refused("POST", club.path(post))[:2] == (409, "too_many_unfinished")
    club.work.drain()

    second = club.member()
    again = club.mail(post)
    assert numbers(again) == {"recipients": 1, "sent": 1}
    assert club.reached() == sorted([first.email, second.email])
    assert [one["recipients"] for one in club.author.get(club.path(post))["data"]] == [1, 1]


def test_of_two_requests_at_once_one_is_a_mailing(club: Club, contention: Contention) -> None:
    club.member()
    post = club.post()

    def ask() -> int:
        return club.author.status("POST", club.path(post))

    held = "select 1 from posts where id = %(id)s for update"
    with contention.held(held, id=post.id):
        asked = contention.start(ask, ask)
    assert sorted(future.result() for future in asked) == [202, 409]


def test_who_may_not_get_it_any_more_is_skipped(club: Club) -> None:
    """The list is made when it begins; each is asked about again before the mail."""
    stays, leaves, blocked, declines = (club.member() for _ in range(4))
    post = club.post()
    mailing = club.author.done("POST", club.path(post))
    club.mailbox.behave(next=[{"at": "mail", "do": "451"}] * 3)
    club.work.drain()
    assert club.read(mailing)["recipients"] == 4
    club.member()

    club.make.rows("update subscriptions set has_access = false where user_id = %(id)s", {"id": leaves.id})
    club.make.block(blocked, club.author.user)
    suppress(club, declines, "unsubscribed")
    club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
    club.work.hurry()

    found = club.read(mailing)
    assert (found["status"], club.reached()) == ("succeeded", [stays.email])
    assert numbers(found) == {"recipients": 4, "sent": 1, "skipped": 3}


def test_a_post_that_is_hidden_meanwhile_goes_to_nobody_more(club: Club) -> None:
    for _ in range(3):
        club.member()
    for change in ("update posts set privacy = 'private'", "delete from posts"):
        post = club.post()
        mailing = club.author.done("POST", club.path(post))
        club.mailbox.behave(next=[{"at": "mail", "do": "451"}] * 3)
        club.work.drain()
        club.make.rows(change + " where id = %(id)s", {"id": post.id})
        club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
        club.work.hurry()
        assert numbers(club.read(mailing)) == {"recipients": 3, "skipped": 3}
    assert club.reached() == []


def test_a_mail_server_that_refuses_some_or_is_busy(club: Club) -> None:
    members = [club.member() for _ in range(6)]
    club.mailbox.behave(next=[{"at": "rcpt", "do": "550"}, {"at": "rcpt", "do": "450"}])
    mailing = club.mail(club.post())
    assert numbers(mailing) == {"recipients": 6, "sent": 4, "failed": 1}
    club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
    club.work.hurry()
    found = club.read(mailing)
    assert (found["status"], numbers(found)) == ("succeeded", {"recipients": 6, "sent": 5, "failed": 1})
    assert len(club.reached()) == len(set(club.reached())) == len(members) - 1


@pytest.mark.parametrize(
    ("moment", "reply", "failed"),
    [("mail", "553", 0), ("rcpt", "554", 3), ("dot", "554", 3)],
)
def test_a_mail_server_that_refuses_everything_does_not_use_up_the_list(
    moment: str, reply: str, failed: int, club: Club, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Say because the operator's account there is suspended. Whose mail was refused gets it by another mailing."""
    # However slow this machine is, the job is not tried again before it is hurried.
    monkeypatch.setattr("workers.job.backoff_s", lambda attempt: 3600.0)
    members = [club.member() for _ in range(8)]
    post = club.post(title="Before", body="before")
    club.mailbox.behave(next=[{"at": moment, "do": reply}] * 8)
    first = club.mail(post)
    assert (first["status"], numbers(first)) == ("running", {"recipients": 8} | ({"failed": failed} if failed else {}))
    assert "before" not in club.make.value(
        "select coalesce(string_agg(encode(raw, 'escape'), ''), '') from email_sends"
    )

    club.mailbox.behave()
    club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
    club.work.hurry()
    first = club.read(first)
    assert (first["status"], first["sent"]) == ("succeeded", 8 - failed)

    club.author.done("PATCH", f"/v1/posts/{post.id}", {"title": "After", "body": "after"})
    again = club.mail(post)
    assert numbers(again) == ({"recipients": failed, "sent": failed} if failed else {})
    assert numbers(club.read(first)) == numbers(first)
    assert club.reached() == sorted(member.email for member in members)
    assert [str(mail["Subject"]) for mail in club.mailbox.mails()] == ["Before"] * (8 - failed) + ["After"] * failed


def test_a_server_that_takes_few_mails_at_a_time_is_no_reason_to_give_up(club: Club) -> None:
    for _ in range(8):
        club.member()
    mailing = club.author.done("POST", club.path(club.post()))
    for _ in range(8):
        club.mailbox.behave(next=[{"at": "dot", "do": "accept"}, *[{"at": "mail", "do": "450"}] * 3])
        club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
        club.work.hurry()
    assert numbers(club.read(mailing)) == {"recipients": 8, "sent": 8}
    # Of these eight attempts, all but the last ended early.
    assert club.make.value("select attempt from jobs where kind = 'post.mailing'") == 1


@pytest.mark.parametrize(
    ("reply", "is_gone"),
    [("550 5.1.1 no such user", True), ("550 5.1.10 null MX", True), ("550 5.7.1 go away", False), ("550 no", False)],
)
def test_an_address_that_the_mail_server_says_does_not_exist_gets_no_more(
    reply: str, is_gone: bool, club: Club
) -> None:
    club.member(user=club.make.user(email="ÄDA@example.com", email_normal="äda@example.com"))
    club.mailbox.behave(next=[{"at": "rcpt", "do": reply}])
    assert numbers(club.mail(club.post())) == {"recipients": 1, "failed": 1}
    assert numbers(club.mail(club.post())) == ({} if is_gone else {"recipients": 1, "sent": 1})


def test_a_mail_that_is_put_off_goes_to_the_address_that_its_reader_has_then(club: Club) -> None:
    reader = club.member()
    mailing = club.author.done("POST", club.path(club.post()))
    club.mailbox.behave(next=[{"at": "rcpt", "do": "450"}])
    club.work.drain()
    # Nothing is kept of what was not sent.
    assert club.make.value("select count(*) from email_sends") == 0
    club.make.rows(
        "update users set email = 'new@example.com', email_normal = 'new@example.com' where id = %(id)s",
        {"id": reader.id},
    )
    club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
    club.work.hurry()
    assert numbers(club.read(mailing)) == {"recipients": 1, "sent": 1}
    assert club.reached() == ["new@example.com"]


def test_a_mail_server_that_is_away_is_waited_for(club: Club, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        club.member()
    away = msgspec.structs.replace(app.extensions["settings"], smtp_url="smtp://127.0.0.1:1")
    with monkeypatch.context() as patch:
        patch.setitem(app.extensions, "settings", away)
        mailing = club.mail(club.post())
    assert (mailing["status"], numbers(mailing)) == ("running", {"recipients": 5})
    # Not each of them is tried in vain.
    assert club.make.value("select count(*) from email_sends") <= 3
    club.make.rows("delete from circuit_breakers")
    club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
    club.work.hurry()
    found = club.read(mailing)
    assert (found["status"], numbers(found)) == ("succeeded", {"recipients": 5, "sent": 5})


def test_a_mail_that_was_tried_in_vain_for_hours_has_failed(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.mailings.MOST_TRIES", 2)
    club.member()
    mailing = club.author.done("POST", club.path(club.post()))
    for _ in range(2):
        club.mailbox.behave(next=[{"at": "rcpt", "do": "450"}])
        club.work.drain()
        club.make.rows("update mailing_recipients set next_at = now() where status = 'pending'")
        club.make.rows("update jobs set run_at = now(), due = true where status = 'queued'")
    club.work.hurry()
    assert numbers(club.read(mailing)) == {"recipients": 1, "failed": 1}


def test_it_is_canceled_through_its_job(club: Club) -> None:
    for _ in range(2):
        club.member()
    post = club.post()
    mailing = club.author.done("POST", club.path(post))
    assert club.author.status("DELETE", mailing["links"]["job"]) < 300
    club.work.drain()
    assert (club.read(mailing)["status"], club.reached()) == ("canceled", [])
    # Another one reaches whoever has not got it.
    assert numbers(club.mail(post)) == {"recipients": 2, "sent": 2}


def test_the_jobs_status_tells_how_many_members_are_done(club: Club) -> None:
    for _ in range(3):
        club.member()
    mailing = club.mail(club.post())
    job = club.author.get(mailing["links"]["job"])
    assert job["progress"] == {"completed": 3, "total": 3, "unit": "members", "percent": 100.0}
    assert job["result"]["href"] == mailing["links"]["self"]


def test_a_domain_takes_so_many_in_so_long(club: Club, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = msgspec.structs.replace(app.extensions["settings"], mailing_domain_limit="1/1000000")
    monkeypatch.setitem(app.extensions, "settings", slow)
    for domain in ("one.example", "two.example", "one.example"):
        club.member(user=club.make.user(email=f"{new_id().hex}@{domain}"))
    mailing = club.mail(club.post())
    assert numbers(mailing) == {"recipients": 3, "sent": 2}
    assert len({address.partition("@")[2] for address in club.reached()}) == 2
    club.make.rows("delete from mail_domains")
    club.work.hurry()
    assert numbers(club.read(mailing)) == {"recipients": 3, "sent": 3}


def test_stores_take_turns(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailing gives way to what waits, and goes on afterwards."""
    monkeypatch.setattr("workers.mailings._TURN_S", 0.0)
    for _ in range(3):
        club.member()
    mailings = [club.author.done("POST", club.path(club.post())) for _ in range(2)]
    club.work.drain()
    assert [numbers(club.read(mailing)) for mailing in mailings] == [{"recipients": 3, "sent": 3}] * 2
    senders = [str(mail["List-Unsubscribe"])[-24:-4] for mail in club.mailbox.mails()]
    assert len(senders) == 6
