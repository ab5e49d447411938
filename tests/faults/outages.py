"""Rows of the matrix in which a server is away, misbehaves, or is killed: the mail server, Redis and PostgreSQL."""

import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from math import ceil

import redis

from tests.faults.house import family, frozen
from tests.faults.matrix import BOTH, Act, Row, entering
from tests.faults.play import Play
from tests.faults.readers import Readers
from tests.servers import wait_until

OUTAGES: list[Row] = []
row = entering(OUTAGES)


# The mail server.


def _misbehave(fault: Mapping[str, object], play: Play) -> None:
    play.house.mailbox.behave(next=[fault])
    play.pay()
    play.strike()


for moment, fault, in_doubt, rejected in (
    ("451", {"at": "dot", "do": "451"}, 0, 0),
    ("550", {"at": "dot", "do": "550"}, 0, 1),
    ("hang", {"at": "dot", "do": "hang", "seconds": 5}, 1, 0),
    ("reset before it accepts", {"at": "dot", "do": "reset"}, 1, 0),
    ("reset after it accepted", {"at": "after_accept", "do": "reset"}, 1, 0),
):
    OUTAGES.append(Row("SMTP", moment, partial(_misbehave, fault), BOTH, in_doubt=in_doubt, rejected=rejected))


@row("SMTP", "killed after it accepted", modes=BOTH, in_doubt=1)
def mail_server_dies(play: Play) -> None:
    play.house.mailbox.behave(next=[{"at": "after_accept", "do": "kill"}])
    play.pay()
    wait_until(lambda: not play.house.mail.is_running, 20, "the mail server to die")
    play.house.mail.start()
    play.strike()


@row("SMTP", "refused", modes=BOTH)
def mail_server_away(play: Play) -> None:
    play.house.mail.stop()
    play.pay()
    wait_until(lambda: any(job.error for job in play.jobs()), 20, "a mail that had to wait")
    play.house.mail.start()
    play.strike()


# Redis.


@row("Redis", "-9 without persistence")
def redis_dies(play: Play) -> None:
    def fault() -> None:
        play.house.valkey.kill()
        play.house.valkey.start()
        play.strike()

    play.pay_during(40, fault, after=10)


@row("Redis", "FLUSHALL")
def redis_forgets(play: Play) -> None:
    def fault() -> None:
        play.strike()
        with closing(redis.Redis.from_url(play.house.redis_url)) as client:
            client.flushall()

    play.pay_during(40, fault, after=10)


def _redis_gone(seconds: float, play: Play) -> None:
    with play.traffic(clients=4, pause_s=0.4):
        time.sleep(max(seconds / 4, 3))
        gone_at = time.time()
        play.house.valkey.kill()
        time.sleep(seconds)
        play.house.valkey.start()
        play.strike()
    before = sorted(accepted.seconds for accepted in play.accepted if accepted.at < gone_at)
    during = [accepted for accepted in play.accepted if accepted.at >= gone_at]
    assert {accepted.attempts for accepted in during} == {1}, "payments are accepted while Redis is away"
    took = sorted(accepted.seconds for accepted in during)
    play.figures = (
        f"accepted before: {len(before)} payments, p99 {_p99_ms(before):.0f} ms; while it was away: {len(took)},"
        f" p99 {_p99_ms(took):.0f} ms, slowest {took[-1] * 1000:.0f} ms"
    )


def _p99_ms(ascending: list[float]) -> float:
    return ascending[ceil(len(ascending) * 0.99) - 1] * 1000


for seconds, moment in ((5.0, "gone for 5 s of traffic"), (60.0, "gone for a minute of traffic")):
    OUTAGES.append(Row("Redis", moment, partial(_redis_gone, seconds), within_s=10.0))


@row("Redis", "SIGSTOP")
def redis_hangs(play: Play) -> None:
    def fault() -> None:
        with frozen(play.house.valkey.pid, 5):
            play.pay(5)
        play.strike()

    play.pay_during(40, fault, after=10)


@row("Redis", "out of memory")
def redis_is_full(play: Play) -> None:
    def fault() -> None:
        with closing(redis.Redis.from_url(play.house.redis_url)) as client:
            client.config_set("maxmemory", 1)
            play.pay(5)
            client.config_set("maxmemory", 0)
        play.strike()

    play.pay_during(40, fault, after=10)


# The journal of changes, which feeds follow: each post and like is in its follower's next read.


def _post_around(fault: Act, play: Play) -> None:
    readers = Readers(play.house)
    readers.post(3)
    fault(play)
    readers.post(3)
    play.pay()
    play.strike()


def _lose_journal(play: Play) -> None:
    with closing(redis.Redis.from_url(play.house.redis_url)) as client:
        names = [name for name in client.scan_iter("dues:*") if client.type(name) == b"stream"]
        assert names, "there is no journal to lose"
        client.delete(*names)


def flush(play: Play) -> None:
    with closing(redis.Redis.from_url(play.house.redis_url)) as client:
        client.flushall()


def restart_redis(play: Play) -> None:
    play.house.valkey.kill()
    play.house.valkey.start()


def _stop_redis(play: Play) -> None:
    """For two posts and their likes; what was written meanwhile is no longer in any record."""
    play.house.valkey.kill()
    Readers(play.house).post(2)
    play.house.valkey.start()


def restart_web(play: Play) -> None:
    before = family(play.house.web.process.pid)[1:]
    for process in before:
        process.kill()
    wait_until(lambda: set(family(play.house.web.process.pid)[1:]) - set(before), 20, "a new web process")


for act, moment in (
    (_lose_journal, "deleted by itself"),
    (flush, "lost with all of Redis"),
    (restart_redis, "lost with Redis' process"),
    (_stop_redis, "away while posts are written"),
    (restart_web, "joined anew by a web process that takes another's place"),
):
    OUTAGES.append(Row("journal", moment, partial(_post_around, act)))


# PostgreSQL.


@row("PostgreSQL", "-9 during 40 payments")
def postgres_dies(play: Play) -> None:
    def fault() -> None:
        play.house.postgres.kill()
        play.house.postgres.start()
        play.strike()

    play.pay_during(40, fault, after=10)


@row(
    "PostgreSQL",
    "-9 between 250 and `sent`",
    modes=BOTH,
    lines={"default": {"mail.after_reply": "stop"}},
    # The worker that heard the answer is still there to write it down.
    lease_s=30,
)
def postgres_dies_before_sent(play: Play) -> None:
    play.pay()
    play.wait_for_line("mail.after_reply")
    play.house.postgres.kill()
    play.house.postgres.start()
    play.strike()
    play.crew.wake_all()


@row("PostgreSQL", "SIGSTOP")
def postgres_hangs(play: Play) -> None:
    def fault() -> None:
        with frozen(play.house.postgres.pid, 4):
            pass
        play.strike()

    play.pay_during(40, fault, after=10)


@row("PostgreSQL", "terminated backends")
def backends_end(play: Play) -> None:
    def fault() -> None:
        for _ in range(3):
            play.strike()
            play.house.terminate_backends()
            time.sleep(0.3)

    play.pay_during(40, fault, after=10)
