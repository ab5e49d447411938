"""Years of memberships under random doings of their members and random declines, against a plain model: every charge
that is expected and no other, to the cent, whatever steps the clock takes and however often its worker dies."""

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace as Row
from typing import Any

import pytest

from dues import failpoints
from dues.failpoints import Armed
from tests.billing.conftest import Club, Member, at
from tests.billing.model import Membership

START = at("2024-01-31")
PRICES = (1000, 3000)
# What a member may do, and how often compared with the rest.
DEEDS = {
    "good card": 4,
    "bad card": 3,
    "cancel": 2,
    "keep": 2,
    "pause": 2,
    "go on": 3,
    "change": 4,
    "end": 1,
    "subscribe": 5,
}
KILLED_AT = [
    "clock.after_step",
    "clock.before_commit",
    "renewal.after_claim",
    *(f"payment.{place}" for place in ("before_charge", "after_charge", "before_commit", "after_commit")),
]


@dataclass
class Deed:
    """At a moment at which nothing else is due a member does something."""

    at: datetime
    member: int
    what: str
    price: int


def deeds(seed: int, members: int, days: int) -> list[Deed]:
    """About one in three weeks for each member, after all have subscribed."""
    chance = random.Random(seed)
    made = []
    for number in range(members):
        made.append(Deed(START + timedelta(hours=number, minutes=7), number, "subscribe", chance.choice(PRICES)))
        for _ in range(days // 21):
            moment = START + timedelta(days=chance.randrange(1, days), hours=chance.randrange(24), minutes=30 + number)
            (what,) = chance.choices(list(DEEDS), weights=list(DEEDS.values()))
            made.append(Deed(moment, number, what, chance.choice(PRICES)))
    return sorted(made, key=lambda deed: deed.at)


def do(one: Membership, deed: Deed) -> None:
    match deed.what:
        case "good card" | "bad card":
            one.card(deed.at, is_good=deed.what == "good card")
        case "subscribe":
            one.subscribe(deed.at, deed.price)
        case "change":
            one.change(deed.price)
        case "cancel":
            one.cancel()
        case "keep":
            one.keep()
        case "pause":
            one.pause()
        case "go on":
            one.go_on(deed.at)
        case "end":
            one.end_now()


def expected(made: list[Deed], members: int, until: datetime) -> list[Membership]:
    found = [Membership() for _ in range(members)]
    for deed in made:
        one = found[deed.member]
        one.wait_until(deed.at)
        do(one, deed)
    for one in found:
        one.wait_until(until)
    return found


@dataclass
class Real:
    """The same in Dues: its clock goes in steps of some days and, where `kills` are left, is killed on the way."""

    club: Club
    chance: random.Random
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    longest_step: int
    kills: int = 0
    members: list[Member] = field(default_factory=list)
    paths: dict[int, str] = field(default_factory=dict)
    packages: dict[int, Row] = field(default_factory=dict)

    def live(self, made: list[Deed], members: int, until: datetime) -> None:
        self.members = [self.club.member() for _ in range(members)]
        self.packages = {price: self.club.package(price) for price in PRICES}
        now = START
        for deed in made:
            now = self.advance(now, deed.at)
            self.do(deed)
        self.advance(now, until)

    def advance(self, now: datetime, to: datetime) -> datetime:
        while now < to:
            now = min(to, now + timedelta(days=self.chance.randint(1, self.longest_step)))
            self.step(now)
        return to

    def step(self, to: datetime) -> None:
        if self.kills:
            self.kills -= 1
            line, once = self.chance.choice(KILLED_AT), str(self.folder / str(self.kills))
            self.monkeypatch.setattr(failpoints, "_armed", {line: Armed("raise", once)})
        answer = self.club.client.put(
            f"{self.club.path}/clock", json={"now": to.isoformat()}, headers=self.club.owner_auth
        )
        assert answer.status_code == 202, answer.text
        self.club.work.drain()
        while (self.club.get(f"{self.club.path}/clock"))["advancing_to"]:
            self.club.work.hurry()

    def do(self, deed: Deed) -> None:
        member, path = self.members[deed.member], self.paths.get(deed.member)
        goal = {"package_id": str(self.packages[deed.price].id)}
        changes: dict[str, dict[str, Any]] = {
            "cancel": {"cancel_at_period_end": True},
            "keep": {"cancel_at_period_end": False},
            "pause": {"paused": True},
            "go on": {"paused": False},
            "change": {**goal, "when": "period_end"},
        }
        if deed.what in ("good card", "bad card"):
            member.card("sandbox_ok" if deed.what == "good card" else "sandbox_declined")
        elif deed.what == "subscribe":
            answer = member.ask(self.packages[deed.price])
            if answer.status_code == 202:
                self.paths[deed.member] = (answer.json or {})["links"]["self"]
        elif path and deed.what == "end":
            member.end(path)
        elif path:
            assert member.try_to(path, **changes[deed.what]).status_code in (200, 409)
        self.club.work.drain()

    def came_to(self, number: int) -> tuple[str, list[tuple[datetime, int]]]:
        """A member's status, and when they were charged how much."""
        found = [(row.paid_at, row.amount) for row in self.members[number].payments() if row.status == "succeeded"]
        rows = self.club.make.rows(
            "select status from subscriptions where user_id = %(id)s and status <> 'expired' order by id desc limit 1",
            {"id": self.members[number].user.id},
        )
        return rows[0].status if rows else "none", found


SIZES = [
    pytest.param(1, 4, 150, 400, 0, id="in steps from deed to deed"),
    pytest.param(2, 4, 150, 9, 30, id="in small steps, killed on the way"),
    pytest.param(3, 200, 1096, 4000, 0, id="200 members for 3 years", marks=pytest.mark.slow),
    pytest.param(3, 200, 1096, 1, 50, id="the same by the day, killed 50 times", marks=pytest.mark.slow),
    pytest.param(3, 200, 1096, 60, 50, id="the same in random steps", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("seed", "members", "days", "longest_step", "kills"), SIZES)
def test_everybody_is_charged_what_the_rules_say_and_nothing_else(
    make_club: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    members: int,
    days: int,
    longest_step: int,
    kills: int,
) -> None:
    until = START + timedelta(days=days)
    made = deeds(seed, members, days)
    real = Real(make_club(START.date().isoformat()), random.Random(seed), tmp_path, monkeypatch, longest_step, kills)
    real.live(made, members, until)
    model = expected(made, members, until)
    assert sum(len(one.charges) for one in model) >= members
    for number, one in enumerate(model):
        own = [(deed.at.isoformat(), deed.what, deed.price) for deed in made if deed.member == number]
        assert real.came_to(number) == (one.status, one.charges), own
