"""A store that mails its posts, and those who may get them."""

from datetime import UTC, datetime
from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.payments.conftest import Work, work
from tests.servers import Mailbox
from tests.social.conftest import People, Person, people

__all__ = ["people", "work"]


class Club:
    """A store with two tiers and readers of every kind; `author` is a manager who writes its posts."""

    def __init__(self, people: People, make: Factory, work: Work, mailbox: Mailbox) -> None:
        self.make, self.work, self.mailbox = make, work, mailbox
        self.owner, self.author = people(), people()
        self.store = make.store(self.owner.user, name="Kiel Climbing", contact_email="desk@example.com")
        make.staff(self.store, self.author.user, role="manager")
        self.tiers = {name: make.package(self.store) for name in ("gold", "silver")}

    def member(self, tier: str = "gold", *, user: Row | None = None, **columns: Any) -> Row:
        user = user or self.make.user()
        self.make.subscription(self.store, user, package=self.tiers[tier], **columns)
        return user

    def lapsed(self) -> Row:
        return self.member(status="canceled", has_access=False, ended_at=datetime.now(UTC))

    def follower(self) -> Row:
        follower = self.make.user()
        self.make.follow(follower, self.author.user)
        return follower

    def post(self, **columns: Any) -> Row:
        return self.make.post(self.author.user, **{"store": self.store, "privacy": "members", **columns})

    def path(self, post: Row) -> str:
        return f"/v1/stores/{self.store.id}/posts/{post.id}/mailings"

    def beside(self, post: Row, what: str) -> str:
        """`mailing-test` or `mailing-preview`."""
        return f"/v1/stores/{self.store.id}/posts/{post.id}/{what}"

    def mail(self, post: Row, by: Person | None = None) -> dict[str, Any]:
        """Have a post mailed, and all jobs done. Returns: the mailing as it is then."""
        mailing = (by or self.author).done("POST", self.path(post))
        self.work.drain()
        return self.read(mailing)

    def read(self, mailing: dict[str, Any]) -> dict[str, Any]:
        return self.author.get(mailing["links"]["self"])

    def reached(self) -> list[str]:
        """The addresses of all mails that have arrived."""
        return sorted(str(mail["Delivered-To"]) for mail in self.mailbox.mails())


NUMBERS = ("recipients", "sent", "failed", "unknown", "skipped", "bounced", "complained", "unsubscribed")


def numbers(mailing: dict[str, Any]) -> dict[str, int]:
    """Those that are not 0."""
    return {name: mailing[name] for name in NUMBERS if mailing[name]}


@pytest.fixture
def club(people: People, make: Factory, work: Work, mailbox: Mailbox, client: FlaskClient) -> Club:
    return Club(people, make, work, mailbox)
