"""Rows of the fault matrix for mailings: a post goes to each member once, whatever strikes in the middle."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial

import redis

from dues.ids import new_id
from tests.faults.client import Client
from tests.faults.house import frozen
from tests.faults.matrix import BOTH, Row, replace_workers
from tests.faults.play import Play
from tests.servers import wait_until

MAILINGS: list[Row] = []
_MEMBERS = 12
_NUMBERS = "select sent + failed + unknown + skipped from mailings where id = %(id)s"
_IN = "select id from email_sends where state = %(state)s and dedupe_key like %(key)s"


class MailedPost:
    """A store's post that is mailed to its members by its manager."""

    def __init__(self, play: Play) -> None:
        make, self._play, store = play.make, play, play.customer.store
        manager, package = make.user(), make.package(store)
        make.staff(store, manager, role="manager")
        self._members = [make.user() for _ in range(_MEMBERS)]
        for member in self._members:
            make.subscription(store, member, package=package)
        post = make.post(manager, store=store, privacy="members")
        self._manager = Client(play.house, manager)
        path = f"/v1/stores/{store.id}/posts/{post.id}/mailings"
        self._mailing = self._manager.done("POST", path, key=new_id().hex)
        self._key = f"mailing:{store.id}:{post.id}:%"

    def settled(self) -> int:
        """How many members it is known of what became of their mail."""
        return int(self._play.make.value(_NUMBERS, {"id": self._mailing["id"]}))

    def wait_for(self, state: str) -> None:
        """Until one of its mails is in this state."""
        values = {"state": state, "key": self._key}
        wait_until(lambda: self._play.make.rows(_IN, values), 20, f"a mail in {state}")

    def check(self, in_doubt: int = 0) -> None:
        """Once all is done: each member has got it once. Where nobody can be asked, `in_doubt` mails are unknown, and
        the mailing says so."""
        self._play.settle()
        mailing = self._manager.done("GET", self._mailing["links"]["self"])
        unknown = in_doubt if self._play.mode == "plain" else 0
        found = [mailing[name] for name in ("status", "recipients", "sent", "unknown", "failed", "skipped")]
        assert found == ["succeeded", _MEMBERS, _MEMBERS - unknown, unknown, 0, 0]
        mails = Counter(str(mail["Delivered-To"]) for mail in self._play.house.mailbox.mails())
        copies = [mails[member.email] for member in self._members]
        assert max(copies) == 1, "somebody has got it twice"
        assert sum(copies) >= _MEMBERS - unknown, "somebody has not got it"
        job = self._manager.done("GET", mailing["links"]["job"])
        assert (job["status"], job["progress"]["completed"]) == ("succeeded", _MEMBERS)


@contextmanager
def _halfway(play: Play, in_doubt: int = 0) -> Iterator[None]:
    """The block runs when some of the members have got it. Mails are slow meanwhile."""
    play.house.mailbox.behave(delay_ms=100)
    mailed = MailedPost(play)
    wait_until(lambda: mailed.settled() >= _MEMBERS // 3, 30, "the first mails")
    assert mailed.settled() < _MEMBERS
    yield
    mailed.check(in_doubt)


def _kill_worker(line: str, in_doubt: int, play: Play) -> None:
    mailed = MailedPost(play)
    play.wait_for_line(line)
    mailed.check(in_doubt)


for line, moment, in_doubt in (
    ("mail.after_claim", "in `sending`", 0),
    ("mail.before_committing", "before `committing`", 0),
    ("mail.after_committing", "after `committing`", 1),
    ("mail.before_dot", "before the dot", 1),
    ("mail.after_dot", "after the dot", 1),
    ("mail.after_reply", "after 250", 1),
    ("mail.after_record", "after `sent`, before its commit", 1),
    ("mailing.after_mail", "between two mails", 0),
):
    act = partial(_kill_worker, line, in_doubt)
    MAILINGS.append(Row("mailing: worker -9", moment, act, BOTH, {"default": {line: "kill"}}))


def _worker_is_told_to_stop(play: Play) -> None:
    play.house.mailbox.behave(delay_ms=600)
    mailed = MailedPost(play)
    mailed.wait_for("committing")
    replace_workers(play)
    play.house.mailbox.behave()
    mailed.check()


MAILINGS.append(Row("mailing: worker SIGTERM", "during a mail", _worker_is_told_to_stop, BOTH))


def _misbehave(fault: Mapping[str, object], in_doubt: int, play: Play) -> None:
    with _halfway(play, in_doubt):
        play.house.mailbox.behave(next=[fault])
        play.strike()


for moment, fault, in_doubt in (
    ("451 for one mail", {"at": "dot", "do": "451"}, 0),
    ("hangs", {"at": "dot", "do": "hang", "seconds": 5}, 1),
    ("reset before it accepts", {"at": "dot", "do": "reset"}, 1),
    ("reset after it accepted", {"at": "after_accept", "do": "reset"}, 1),
):
    MAILINGS.append(Row("mailing: SMTP", moment, partial(_misbehave, fault, in_doubt), BOTH))


def _mail_server_dies(play: Play) -> None:
    with _halfway(play, in_doubt=1):
        play.house.mailbox.behave(next=[{"at": "after_accept", "do": "kill"}])
        wait_until(lambda: not play.house.mail.is_running, 20, "the mail server to die")
        play.house.mail.start()
        play.strike()


MAILINGS.append(Row("mailing: SMTP", "killed after it accepted", _mail_server_dies, BOTH))


def _mail_server_refuses_the_sender(play: Play) -> None:
    with _halfway(play):
        play.house.mailbox.behave(next=[{"at": "mail", "do": "553"}] * 6)
        play.strike()


MAILINGS.append(Row("mailing: SMTP", "refuses the sender for a while", _mail_server_refuses_the_sender))


def _flush_redis(play: Play) -> None:
    with closing(redis.Redis.from_url(play.house.redis_url)) as client:
        client.flushall()


def _restart_redis(play: Play) -> None:
    play.house.valkey.kill()
    play.house.valkey.start()


def _restart_postgres(play: Play) -> None:
    play.house.postgres.kill()
    play.house.postgres.start()


def _freeze_postgres(play: Play) -> None:
    with frozen(play.house.postgres.pid, 4):
        pass


def _cut_backends(play: Play) -> None:
    for _ in range(3):
        play.house.terminate_backends()
        time.sleep(0.3)


def _in_the_middle(strike: Callable[[Play], None], play: Play) -> None:
    with _halfway(play):
        strike(play)
        play.house.mailbox.behave()
        play.strike()


for strike, struck, moment in (
    (_flush_redis, "Redis", "FLUSHALL"),
    (_restart_redis, "Redis", "-9 without persistence"),
    (_restart_postgres, "PostgreSQL", "-9"),
    (_freeze_postgres, "PostgreSQL", "SIGSTOP"),
    (_cut_backends, "PostgreSQL", "terminated backends"),
):
    MAILINGS.append(Row(f"mailing: {struck}", moment, partial(_in_the_middle, strike), lease_s=5))
