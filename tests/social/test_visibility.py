"""Who sees what: every privacy before every kind of viewer, on each route that could show a post or hint at it.

The table is written from docs and contract, not from the code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace as Row

import pytest
from flask import Flask

from tests.factory import Factory
from tests.feeds.members import Members
from tests.social.conftest import People, Person

VIEWERS = ("nobody", "stranger", "follower", "blocked", "gold", "silver", "lapsed", "support", "author")

# A post of a person, or of a store where the author is a manager; `gold` and `silver` are members of the store's tiers.
TABLE = """
#                 nobody stranger follower blocked gold silver lapsed support author
own    public        x      x        x        -     x     x      x       x      x
own    followers     -      -        x        -     -     -      -       -      x
own    private       -      -        -        -     -     -      -       -      x
own    draft         -      -        -        -     -     -      -       -      x
own    scheduled     -      -        -        -     -     -      -       -      x
store  public        x      x        x        -     x     x      x       x      x
store  followers     -      -        x        -     -     -      -       x      x
store  members       -      -        -        -     x     x      -       x      x
store  gold          -      -        -        -     x     -      -       x      x
store  gold+silver   -      -        -        -     x     x      -       x      x
store  private       -      -        -        -     -     -      -       x      x
store  draft         -      -        -        -     -     -      -       x      x
"""

# Whose newsfeeds have what they see of each.
NEWSFEED_OF = {"own": {"follower", "author"}, "store": {"follower", "author", "gold", "silver", "support"}}


@dataclass(frozen=True)
class Case:
    whose: str
    what: str
    seen_by: frozenset[str]

    def __str__(self) -> str:
        return f"{self.whose} {self.what}"


def read_table(text: str) -> list[Case]:
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [
        Case(whose, what, frozenset(viewer for viewer, mark in zip(VIEWERS, marks, strict=True) if mark == "x"))
        for whose, what, *marks in rows
    ]


CASES = read_table(TABLE)


class House:
    """An author, a store where they are a manager, and all who look."""

    def __init__(self, people: People, make: Factory) -> None:
        self.make = make
        self.store = make.store()
        self.tiers = {name: make.package(self.store) for name in ("gold", "silver")}
        self.viewers = {name: people() for name in VIEWERS if name != "nobody"} | {"nobody": people.nobody}
        self.author = self.viewers["author"]
        make.staff(self.store, self.author.user, role="manager")
        make.staff(self.store, self.viewers["support"].user, role="support")
        make.follow(self.viewers["follower"].user, self.author.user)
        make.block(self.author.user, self.viewers["blocked"].user)
        # A block is stronger than what was paid for.
        for name, tier in (("gold", "gold"), ("silver", "silver"), ("blocked", "gold")):
            make.subscription(self.store, self.viewers[name].user, package=self.tiers[tier])
        make.subscription(
            self.store,
            self.viewers["lapsed"].user,
            package=self.tiers["gold"],
            status="canceled",
            has_access=False,
            ended_at=datetime.now(UTC),
        )

    def post(self, case: Case) -> Row:
        """The post of a case, liked and commented on by its author."""
        status = case.what if case.what in ("draft", "scheduled") else "published"
        tiers = [self.tiers[name].id for name in case.what.split("+") if name in self.tiers]
        privacy = "members" if tiers else case.what if status == "published" else "public"
        extra = {"publish_at": "2030-01-01"} if status == "scheduled" else {}
        store = self.store if case.whose == "store" else None
        post = self.make.post(
            self.author.user, store=store, privacy=privacy, status=status, package_ids=tiers, body="findable", **extra
        )
        if status == "published":
            self.make.like(post, self.author.user)
        post.comment = self.make.comment(post, self.author.user)
        post.shown_in_lists = status == "published"
        return post


@pytest.fixture
def members(app: Flask, make: Factory) -> Members:
    return Members(app, make)


@pytest.fixture
def house(people: People, make: Factory) -> House:
    return House(people, make)


def lists(house: House, post: Row) -> list[str]:
    """Lists that would show the post, were it visible."""
    found = ["/v1/posts", f"/v1/users/{house.author.id}/posts", f"/v1/posts?author_id={house.author.id}"]
    if post.store_id:
        found += [f"/v1/stores/{house.store.id}/posts", f"/v1/posts?store_id={house.store.id}"]
    flag = "published=true" if post.shown_in_lists else "published=false"
    asked = [f"{path}{'&' if '?' in path else '?'}{flag}{page}" for path in found for page in ("", "&cursor=")]
    asked += [f"{found[-1]}{'&' if '?' in found[-1] else '?'}{flag}&meta_style=drf&page_size=5"]
    if post.shown_in_lists:
        asked += ["/v1/posts?q=findable", "/v1/posts?q=findable&cursor=", f"/v1/users/{house.author.id}/posts?q=find"]
    return asked


def tells(person: Person, house: House, post: Row) -> dict[str, Callable[[], bool]]:
    """Each route that could tell of the post, and how to find out whether it does."""

    def is_there(path: str) -> bool:
        return person.status("GET", path) == 200

    def is_listed(path: str) -> bool:
        answer = person.send("GET", path)
        if answer.status_code == 404:
            return False
        document = answer.json or {}
        found = document["results" if "drf" in path else "data"]
        assert document.get("count", document.get("meta", {}).get("total", len(found))) == len(found)
        return [item["id"] for item in found] == [str(post.id)]

    def is_counted(path: str) -> bool:
        profile = person.send("GET", path)
        return profile.status_code == 200 and (profile.json or {})["posts_count"] == 1

    path = f"/v1/posts/{post.id}"
    single = [path, f"{path}/likes", f"{path}/comments", f"{path}/comments/{post.comment.id}"]
    looks: dict[str, Callable[[], bool]] = {each: partial(is_there, each) for each in single}
    looks |= {each: partial(is_listed, each) for each in lists(house, post)}
    if post.shown_in_lists:
        feeds = ("/v1/feed", "/v1/feed?cursor=") if person.id else ()
        looks |= {each: partial(is_listed, each) for each in feeds}
        profile = f"/v1/users/{house.author.id}"
        looks[profile] = partial(is_counted, profile)
    return looks


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.wide, id="all"), pytest.param(3, id="some")])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_reads(case: Case, every: int, house: House) -> None:
    """In the plain run each viewer tries a third of the routes, another in each case, so that all are tried by all."""
    post = house.post(case)
    for place, (name, person) in enumerate(house.viewers.items(), CASES.index(case)):
        expected = name in case.seen_by
        looks = list(tells(person, house, post).items())[place % every :: every]
        assert {route: expected for route, look in looks if look() != expected} == {}, name
        if person.id and post.shown_in_lists:
            in_newsfeed = [str(post.id)] if expected and name in NEWSFEED_OF[case.whose] else []
            assert person.ids("/v1/newsfeed") == person.ids("/v1/newsfeed?cursor=&limit=1") == in_newsfeed, name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_writes(case: Case, house: House) -> None:
    """Who does not see a post cannot tell it from one that is not there, whatever is tried."""
    post = house.post(case)
    path, comment = f"/v1/posts/{post.id}", f"/v1/posts/{post.id}/comments/{post.comment.id}"
    tries = [
        ("PUT", f"{path}/like", None),
        ("DELETE", f"{path}/like", None),
        ("POST", f"{path}/comments", {"body": "x"}),
        ("POST", f"{path}/comments", {"body": ""}),
        ("PATCH", comment, {"body": "x"}),
        ("DELETE", comment, None),
        ("PATCH", path, {"body": "x"}),
        ("DELETE", path, None),
    ]
    for name, person in house.viewers.items():
        if name in ("nobody", "author"):
            continue
        answers = [person.status(*each) for each in tries]
        if name in case.seen_by:
            may_moderate = name == "support" and case.whose == "store"
            not_yet = 409 if not post.shown_in_lists else 0
            assert answers[:4] == [not_yet or 200, 204, not_yet or 201, 422], name
            assert answers[4:] == [403, 204 if may_moderate else 403, 403, 403], name
        else:
            assert answers == [404] * len(tries), name
        if name == "support" and case.whose == "store":
            post.comment = house.make.comment(post, house.author.user)
            comment = f"/v1/posts/{post.id}/comments/{post.comment.id}"
            tries[4:6] = [("PATCH", comment, {"body": "x"}), ("DELETE", comment, None)]


def test_a_token_without_the_scope_sees_what_everybody_sees(house: House, people: People) -> None:
    ours = house.post(next(case for case in CASES if str(case) == "own private"))
    public = house.post(next(case for case in CASES if str(case) == "own public"))
    author = people(house.author.user, scopes=["account:read"])
    assert author.ids("/v1/posts") == [str(public.id)]
    assert author.status("GET", f"/v1/posts/{ours.id}") == 404
    assert author.get(f"/v1/posts/{public.id}")["liked_by_me"] is None


def test_a_membership_counts_from_its_first_moment_to_its_last(house: House, members: Members) -> None:
    posts = {
        name: house.post(next(case for case in CASES if str(case) == f"store {name}")) for name in ("gold", "members")
    }
    person, store = house.viewers["stranger"], str(house.store.id)

    def seen() -> list[str]:
        found = [name for name, post in posts.items() if person.status("GET", f"/v1/posts/{post.id}") == 200]
        assert person.ids("/v1/newsfeed?sort=published_at") == [str(posts[name].id) for name in posts if name in found]
        return found

    assert seen() == []
    for tier, expected in (("silver", ["members"]), ("gold", ["gold", "members"]), ("silver", ["members"]), (None, [])):
        members.set(store, str(person.id), str(house.tiers[tier].id) if tier else None)
        assert seen() == expected, tier
