"""A mailing whose worker is killed again and again, with real processes and a real mail server."""

import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace as Row
from typing import Any

import pytest

from tests.factory import Factory
from tests.mailings.conftest import Club, numbers
from tests.servers import Mailbox, wait_until
from tests.workers.conftest import Processes, kill, processes

__all__ = ["processes"]

KILLS = 5

_USERS = """
    insert into users(id, email, email_normal, name, password_hash, email_verified_at)
    select gen_random_uuid(), mail, mail, 'Member ' || n, '', now()
    from generate_series(1, %(count)s) n, lateral (select 'member' || n || '@example.com' as mail) m
"""
_CUSTOMERS = """
    insert into customers(store_id, user_id, created_at, updated_at)
    select %(store)s, id, now(), now() from users where email like 'member%%'
"""
_COLUMNS = """
    select string_agg(quote_ident(attname), ', ') from pg_attribute
    where attrelid = 'subscriptions'::regclass and attnum > 0 and not attisdropped and attgenerated = ''
        and attname not in ('id', 'user_id')
"""
_SUBSCRIPTIONS = """
    insert into subscriptions(id, user_id, {columns})
    select gen_random_uuid(), member.id, {columns}
    from subscriptions s, (select id from users where email like 'member%%') member where s.user_id = %(like)s
"""


def add_members(club: Club, count: int) -> None:
    """Many at once, like one that there is."""
    first = club.member()
    club.make.rows(_USERS, {"count": count - 1})
    club.make.rows(_CUSTOMERS, {"store": club.store.id})
    columns = club.make.value(_COLUMNS)
    club.make.rows(_SUBSCRIPTIONS.format(columns=columns), {"like": first.id})


class Mailed:
    """A mailing that is under way, in processes of its own."""

    def __init__(self, club: Club, mailbox: Mailbox, make: Factory) -> None:
        self._club, self._mailbox, self._make = club, mailbox, make
        self.mailing = club.author.done("POST", club.path(club.post()))

    def row(self) -> Row:
        [row] = self._make.rows("select status, leased_by, attempt from jobs where kind = 'post.mailing'")
        return row

    def settled(self) -> int:
        return int(self._make.value("select sent + failed + unknown + skipped from mailings"))

    def kill_worker(self, after: int) -> int:
        """The process that has the job, once it has mailed to so many. Returns: its id."""
        wait_until(lambda: self.settled() >= after and self.row().status == "running", 60, f"{after} mails")
        pid = int(self.row().leased_by.rpartition(":")[2])
        kill(pid)
        return pid

    def end(self, timeout_s: float) -> dict[str, Any]:
        wait_until(lambda: self.row().status not in ("queued", "running"), timeout_s, "the mailing's end")
        return self._club.read(self.mailing)

    def copies(self) -> Counter[str]:
        return Counter(str(mail["Delivered-To"]) for mail in self._mailbox.mails())


def mail_with_kills(
    count: int, club: Club, processes: Processes, mailbox: Mailbox, make: Factory, **environ: str
) -> tuple[Mailed, float]:
    add_members(club, count)
    # Slow enough for a kill to come in the middle of a mail, and not between two.
    mailbox.behave(delay_ms=5)
    processes.start_both("default:2", JOB_LEASE_S="1", SMTP_TIMEOUT_S="0.5", **environ)
    started = time.monotonic()
    mailed = Mailed(club, mailbox, make)
    killed = {mailed.kill_worker(after=number * count // (KILLS + 1)) for number in range(1, KILLS + 1)}
    found = mailed.end(timeout_s=60 + count / 20)
    seconds = time.monotonic() - started
    assert found["status"] == "succeeded"
    assert len(killed) == KILLS
    return mailed, seconds


def test_everybody_gets_exactly_one(club: Club, processes: Processes, mailbox: Mailbox, make: Factory) -> None:
    """With a provider that can be asked."""
    mailed, _ = mail_with_kills(60, club, processes, mailbox, make)
    assert numbers(club.read(mailed.mailing)) == {"recipients": 60, "sent": 60}
    assert (len(mailed.copies()), set(mailed.copies().values())) == (60, {1})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_get_exactly_one(
    club: Club,
    processes: Processes,
    mailbox: Mailbox,
    make: Factory,
    record_property: Callable[[str, object], None],
) -> None:
    mailed, seconds = mail_with_kills(5000, club, processes, mailbox, make)
    assert numbers(club.read(mailed.mailing)) == {"recipients": 5000, "sent": 5000}
    assert (len(mailed.copies()), set(mailed.copies().values())) == (5000, {1})
    record_property("mails_per_s", round(5000 / seconds, 1))
    print(f"5,000 mails with {KILLS} kills in {seconds:.1f} s: {5000 / seconds:.0f} a second")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nobody_gets_two_where_nobody_can_be_asked(
    club: Club, processes: Processes, mailbox: Mailbox, make: Factory
) -> None:
    """What was in doubt at a kill is held for the operator, and everybody else has got theirs."""
    mailed, _ = mail_with_kills(300, club, processes, mailbox, make, MAIL_LOOKUP_URL="")
    found = numbers(club.read(mailed.mailing))
    assert found["sent"] + found.get("unknown", 0) == 300
    assert found.get("unknown", 0) <= KILLS
    assert set(mailed.copies().values()) == {1}
    assert len(mailed.copies()) >= found["sent"]
