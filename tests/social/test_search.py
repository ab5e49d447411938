"""Posts are found by their words: by all of them, the best first, and never what one may not see."""

import pytest
from flask import Flask

from dues.social import search
from tests.factory import Factory
from tests.social.conftest import People, Person


def found(person: Person, words: str, **more: str) -> list[str]:
    answer = person.send("GET", "/v1/posts", query={"q": words, "fields": "title"} | more)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in (answer.json or {})["data"]]


@pytest.fixture
def ann(people: People) -> Person:
    """Has written some posts."""
    ann = people()
    for title, body in {
        "Walls": "We climb on Monday, and a new boulder is there.",
        "Boulder": "A boulder, a boulder, a boulder!",
        "Überhang": "Nichts für Anfänger: der Überhang.",
        "Notes": "Climbing is what we do. Don't fall.",
        "Rope": "Of ropes and knots; no boulders.",
    }.items():
        ann.post(title=title, body=body)
    return ann


@pytest.mark.parametrize(
    ("words", "titles"),
    [
        # A word of the title counts more; the newest come first of what is equally good.
        ("boulder", ["Boulder", "Rope", "Walls"]),
        ("BOULDER", ["Boulder", "Rope", "Walls"]),
        ("boulder monday", ["Walls"]),
        # The last word may not be finished.
        ("clim", ["Notes", "Walls"]),
        ("cl", []),
        ("clim monday", []),
        ("überhang", ["Überhang"]),
        ('"new boulder"', ["Walls"]),
        ("rope or überhang", ["Überhang", "Rope"]),
        ("climb -monday", []),
        ("climbing -monday", ["Notes"]),
        # What is not wanted is a whole word.
        ("boulder -monda", ["Boulder", "Walls"]),
        ("nothing", []),
        ("!!!", []),
        ("' & ( | :* \\ %s %(viewer)s", []),
        ("'; drop table posts; --", []),
    ],
)
def test_what_is_found(ann: Person, words: str, titles: list[str]):
    assert sorted(found(ann, words)) == sorted(titles)
    if "boulder" in words.lower():
        assert found(ann, words) == titles


def test_what_was_edited_is_found_by_its_new_words(people: People):
    ann = people()
    post = ann.post(body="one")
    assert ann.ids("/v1/posts?q=one") == [post["id"]]
    ann.done("PATCH", post["links"]["self"], {"body": "two"})
    assert (ann.ids("/v1/posts?q=one"), ann.ids("/v1/posts?q=two")) == ([], [post["id"]])


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ("q=", "q"),
        ("q=%20", "q"),
        (f"q={'x' * 201}", "q"),
        ("q=x&sort=-published_at", "sort"),
        ("q=x&q=y", "q"),
        ("q=%00", "q"),
    ],
)
def test_what_cannot_be_asked(people: People, asked: str, parameter: str):
    assert people.nobody.refused("GET", f"/v1/posts?{asked}") == (400, "invalid_parameter", [parameter])


def test_a_walk_by_cursor_is_whole_while_others_write(people: People):
    ann = people()
    posts = [ann.post(body="word " * (1 + number % 4))["id"] for number in range(9)]
    page, seen = ann.get("/v1/posts?q=word&cursor=&limit=2"), []
    while True:
        seen += [item["id"] for item in page["data"]]
        ann.post(body="word word word word word")
        if page["links"]["next"] is None:
            break
        page = ann.get(page["links"]["next"])
    assert len(seen) == len(set(seen))
    assert set(posts) <= set(seen)
    assert ann.get(page["links"]["prev"])["data"][-1]["id"] == seen[-len(page["data"]) - 1]
    assert people.nobody.refused("GET", f"/v1/posts?q=other&{page['links']['self'].partition('&')[2]}")[0] == 400


def test_pages_by_number_know_how_many_are_found(people: People):
    ann = people()
    for number in range(5):
        ann.post(title=str(number), body="word")
    ann.post(body="word", privacy="private")
    page = people.nobody.get("/v1/posts?q=word&per_page=2&page=3")
    assert (len(page["data"]), page["meta"]["total"], page["meta"]["last_page"]) == (1, 5, 3)


@pytest.mark.parametrize("are_many", [False, True])
def test_both_ways_of_looking_find_the_same(
    app: Flask, people: People, make: Factory, are_many: bool, monkeypatch: pytest.MonkeyPatch
):
    """Which one is taken follows from what PostgreSQL expects; here it is told what to expect."""
    ann, bob = people(), people()
    for number in range(30):
        body = "word" if number % 3 else "other"
        ann.post(title=str(number), body=body, privacy="private" if number % 5 == 0 else "public")
    estimate = 10**6 if are_many else 1
    source = make.value("select prosrc from pg_proc where proname = 'dues_estimated_rows'")
    replace = "create or replace function dues_estimated_rows(query text) returns bigint language plpgsql as "
    make.rows(f"{replace} 'begin return {estimate}; end'")
    try:
        assert len(ann.ids("/v1/posts?q=word&per_page=100")) == 20
        assert len(bob.ids("/v1/posts?q=word&per_page=100")) == 16
    finally:
        make.rows(f"{replace} $${source}$$")


def test_where_more_are_found_than_were_expected_the_newest_are(people: People, make: Factory):
    ann = people()
    make.rows(
        "insert into posts(id, feed_id, author_id, title, body, privacy, status, published_at)"
        " select gen_random_uuid(), ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, %(ann)s, n::text,"
        " 'word',"
        " case when n %% 2 = 0 then 'public' else 'private' end, 'published', now() from generate_series(1, 1200) n",
        {"ann": ann.id},
    )
    page = people.nobody.get("/v1/posts?q=word&per_page=3")
    assert [item["title"] for item in page["data"]] == ["1200", "1198", "1196"]
    assert page["meta"]["total"] == search.MOST_FOUND
    last = people.nobody.get("/v1/posts?q=word&per_page=100&page=5")
    assert (last["data"][-1]["title"], last["links"]["next"]) == ("202", None)
