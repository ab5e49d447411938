"""Feeds are looked for by legs, through partial indexes: what they find is what the plain definition says, on every
page and in both directions."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
import ujson
from flask import Flask

from dues.feeds.reads import feed, newsfeed
from dues.reads import Computed, Resource, execute, parse_query, plan_list
from dues.social.reads import posts_scope
from dues.social.visibility import MEMBERSHIPS, VISIBLE, Viewer
from tests.factory import Factory

USERS, STORES, POSTS = 30, 3, 900

# Spread at random, but the same each time.
_FILL = f"""
    select setseed(0.5);
    insert into users(id, email, email_normal, name, password_hash)
        select md5('u' || n)::uuid, 'u' || n || '@example.com', 'u' || n || '@example.com', 'User', ''
        from generate_series(1, {USERS}) n;
    insert into stores(id, owner_id, name, slug, currency)
        select md5('s' || n)::uuid, md5('u' || n)::uuid, 'Store', 's' || n, 'EUR' from generate_series(1, {STORES}) n;
    insert into store_staff(store_id, user_id, id, role)
        select md5('s' || n)::uuid, md5('u' || n)::uuid, gen_random_uuid(), 'owner' from generate_series(1, {STORES}) n;
    insert into packages(store_id, id, name, amount, currency, interval)
        select md5('s' || n)::uuid, md5('p' || n || p)::uuid, 'Tier', 1, 'EUR', 'month'
        from generate_series(1, {STORES}) n, generate_series(1, 2) p;
    insert into customers(store_id, user_id, created_at, updated_at)
        select md5('s' || s)::uuid, md5('u' || n)::uuid, now(), now()
        from generate_series(1, {USERS}) n, generate_series(1, {STORES}) s where random() < 0.3;
    insert into subscriptions(store_id, id, user_id, package_id, has_access, status, ended_at, amount, currency,
            interval, interval_count, anchor_at, timezone, trial_days, trial_refused, period_number,
            cancel_at_period_end, test, created_at, updated_at, version)
        select c.store_id, gen_random_uuid(), c.user_id, p.id, c.has_access,
            case when c.has_access then 'active' else 'canceled' end, case when not c.has_access then now() end,
            1, 'EUR', 'month', 1, now(), 'UTC', 0, false, 0, false, false, now(), now(), 1
        from (select *, random() < 0.8 as has_access, random() as x from customers) c
            join lateral (select id from packages where store_id = c.store_id order by md5(id::text || c.x) limit 1) p
            on true;
    insert into follows(follower_id, followed_id, id)
        select md5('u' || a)::uuid, md5('u' || b)::uuid, gen_random_uuid()
        from generate_series(1, {USERS}) a, generate_series(1, {USERS}) b where a <> b and random() < a / 150.0;
    insert into blocks(blocker_id, blocked_id, id)
        select md5('u' || a)::uuid, md5('u' || b)::uuid, gen_random_uuid()
        from generate_series(1, {USERS}) a, generate_series(1, {USERS}) b where a <> b and random() < 0.02;
    delete from follows f using hidden_users h where h.viewer_id = f.follower_id and h.user_id = f.followed_id;
    insert into posts(id, feed_id, author_id, store_id, body, privacy, status, published_at, package_ids)
        select gen_random_uuid(),
            (lpad(to_hex(1690000000000 + n), 12, '0') || '7' || left(md5(n::text), 3) || '8'
                || right(md5(n::text), 15))::uuid,
            md5('u' || 1 + floor({USERS} * power(random(), 2)))::uuid, case when x > 0.6 then md5('s' || s)::uuid end,
            'x',
            case when x > 0.8 then 'members' else (array['public', 'public', 'followers', 'private'])[1 + n % 4] end,
            case when n % 20 = 0 then 'draft' else 'published' end, case when n % 20 > 0 then now() end,
            case when x > 0.9 then array[md5('p' || s || 1 + n % 2)::uuid] else '{{}}' end
        from (select n, random() as x, 1 + floor({STORES} * random()) as s from generate_series(1, {POSTS}) n) p;
    insert into post_packages
        select store_id, unnest(package_ids), feed_id, id, author_id from posts
        where status = 'published' and package_ids <> '{{}}';
"""
_IN_NEWSFEED = """
    (p.author_id = %(viewer)s::uuid
    or exists (select from follows f where f.follower_id = %(viewer)s::uuid and f.followed_id = p.author_id)
    or exists (select from store_staff s where s.store_id = p.store_id and s.user_id = %(viewer)s::uuid)
    or exists (select from memberships m where m.store_id = p.store_id and m.user_id = %(viewer)s::uuid))
"""
_PLAIN = f"""
    select p.id::text from posts p where {Computed(VISIBLE, {}).render("p")} and p.status = %(status)s and {{of}}
    order by p.feed_id desc
"""


@pytest.fixture
def filled(app: Flask, make: Factory) -> Iterator[Factory]:
    make.rows(_FILL)
    with app.app_context():
        yield make


def viewers(make: Factory) -> list[Viewer]:
    return [Viewer(), *(Viewer(row.id) for row in make.rows("select id from users order by email"))]


def plain(make: Factory, viewer: Viewer, *, of: str = "true", status: str = "published") -> list[str]:
    """What the definition says, without any leg; what the viewer is a member of is read first, as Citus has it."""
    values = {**viewer.scope, "status": status, "apart": make.value(MEMBERSHIPS.query, viewer.scope)}
    rows = make.rows(MEMBERSHIPS.given(_PLAIN.format(of=of)), values)
    return [row.id for row in rows]


def read(resource: Resource, viewer: Viewer, text: str) -> dict[str, Any]:
    query = parse_query(resource, parse_qsl(text, keep_blank_values=True))
    answer = execute(plan_list(resource, posts_scope(viewer), query, "/v1/x", text))
    document: dict[str, Any] = ujson.loads(answer.body)
    return document


def walk(resource: Resource, viewer: Viewer, size: int, most: int) -> tuple[list[str], str]:
    """Some pages from the first on. Returns: the ids, and the link to the page before the last that was read."""
    text, back = f"cursor=&limit={size}&fields=id", ""
    ids: list[str] = []
    while text and len(ids) < most:
        document = read(resource, viewer, text)
        ids += [item["id"] for item in document["data"]]
        back = document["links"]["prev"] or ""
        text = (document["links"]["next"] or "").partition("?")[2]
    return ids, back.partition("?")[2]


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.wide, id="all"), pytest.param(4, id="some")])
@pytest.mark.parametrize(("resource", "of"), [(feed, "true"), (newsfeed, _IN_NEWSFEED)], ids=["feed", "newsfeed"])
def test_each_page_is_what_the_definition_says(filled: Factory, resource: Resource, of: str, every: int) -> None:
    """To every viewer, or in the plain run to every fourth."""
    shown = 0
    for place, viewer in enumerate(viewers(filled)[::every]):
        if viewer.user_id is None and resource is newsfeed:
            continue
        expected = plain(filled, viewer, of=of)
        size = (3, 20, 50)[place % 3]
        ids, back = walk(resource, viewer, size, 5 * size)
        assert ids == expected[: len(ids)], viewer
        assert len(ids) == min(5 * size, len(expected)) or len(ids) == len(expected)
        if back:
            before = [item["id"] for item in read(resource, viewer, back)["data"]]
            page = (len(ids) - 1) // size
            assert before == expected[(page - 1) * size : page * size], viewer
        document = read(resource, viewer, f"page=3&per_page={size}&fields=id")
        assert [item["id"] for item in document["data"]] == expected[2 * size : 3 * size], viewer
        assert document["meta"]["total"] == len(expected), viewer
        assert read(resource, viewer, "total=exact&per_page=1&fields=id")["meta"]["total"] == len(expected), viewer
        oldest = read(resource, viewer, f"sort=published_at&per_page={size}&fields=id")
        assert [item["id"] for item in oldest["data"]] == expected[::-1][:size], viewer
        shown += len(ids)
    assert shown > 1000 / every


@pytest.mark.usefixtures("spread")
def test_drafts_are_ones_own_and_those_of_the_stores_one_works_for(filled: Factory) -> None:
    found = {}
    for viewer in viewers(filled):
        expected = plain(filled, viewer, status="draft")
        document = read(feed, viewer, "published=false&per_page=100&fields=id")
        assert [item["id"] for item in document["data"]] == expected, viewer
        assert document["meta"]["total"] == len(expected)
        found[viewer] = len(expected)
    assert found[Viewer()] == 0
    assert sum(found.values()) > POSTS / 20


@pytest.mark.usefixtures("spread")
def test_a_token_of_a_store_shows_what_is_public_and_that_stores(filled: Factory) -> None:
    for viewer in viewers(filled)[1:8]:
        assert viewer.user_id
        store = filled.rows("select id from stores order by slug")[0].id
        bound = Viewer(viewer.user_id, store)
        expected = plain(filled, bound)
        document = read(feed, bound, "per_page=100&fields=id")
        assert [item["id"] for item in document["data"]] == expected[:100]
        assert document["meta"]["total"] == len(expected)
