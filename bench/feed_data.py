"""Posts, follows and likes for the benchmarks of feeds, made by PostgreSQL itself: the same rows each time.

Who writes, who is followed and what is liked is spread as such things are: few have most of it (Zipf). On top of that
there are readers who follow 10, 100, 1,000 and 5,000 people, popular ones or quiet ones; a star whom very many follow;
and a post with very many likes.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from uuid import UUID

import psycopg2.extensions

from bench.data import Data, bare_servers, make_ready
from bench.servers import HOME

FOLLOWED = (10, 100, 1000, 5000)
WRITERS, STORES = 100_000, 200
# Numbered after the writers; the star's followers come after these.
_READERS = 100
STAR = 0
_YEAR_MS = 365 * 86_400_000
_BEGAN_MS = 1_690_000_000_000

# A post's id tells its time, and is the same each time. Of `count` things the first is taken most often, the more so
# the smaller `shift` is.
_FUNCTIONS = """
create function pg_temp.user_id(n bigint) returns uuid language sql immutable as $$ select md5('user' || n)::uuid $$;
create function pg_temp.store_id(n bigint) returns uuid language sql immutable as $$ select md5('store' || n)::uuid $$;
create function pg_temp.package_id(s bigint, p bigint) returns uuid language sql immutable as
    $$ select md5('package' || s || '-' || p)::uuid $$;
create function pg_temp.post_ms(n bigint) returns bigint language sql immutable as
    $$ select %(began)s + (n * %(step)s)::bigint $$;
create function pg_temp.post_id(n bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex(pg_temp.post_ms(n)), 12, '0') || '7' || left(md5('post' || n), 3) || '8'
        || right(md5('post' || n), 15))::uuid $$;
create function pg_temp.zipf(count float8, shift float8) returns bigint language sql volatile as
    $$ select least(count - 1, floor(shift * (power(1 + count / shift, random()) - 1)))::bigint $$;
select setseed(0.25);
"""
_PEOPLE = """
insert into users(id, email, email_normal, name, password_hash)
    select pg_temp.user_id(n), 'user' || n || '@example.org', 'user' || n || '@example.org', 'User ' || n, ''
    from generate_series(0, %(users)s - 1) n;
insert into stores(id, owner_id, name, slug, currency)
    select pg_temp.store_id(n), pg_temp.user_id(n), 'Store ' || n, 'store-' || n, 'EUR'
    from generate_series(0, %(stores)s - 1) n;
insert into store_staff(store_id, user_id, id, role)
    select pg_temp.store_id(n), pg_temp.user_id(n), gen_random_uuid(), 'owner'
    from generate_series(0, %(stores)s - 1) n;
insert into packages(store_id, id, name, amount, currency, interval)
    select pg_temp.store_id(n), pg_temp.package_id(n, p), 'Package ' || p, 500, 'EUR', 'month'
    from generate_series(0, %(stores)s - 1) n, generate_series(0, 1) p;
"""
# Writers join up to three stores; those who follow popular people join three more.
_MEMBERS = """
create temp table joins on commit drop as
    select distinct pg_temp.zipf(%(stores)s, 10) as s, n, n %% 2 as p
    from generate_series(0, %(writers)s - 1) n, generate_series(1, 3)
    union select s, n, 0 from generate_series(50, 52) s, unnest(%(popular)s::bigint[]) n;
insert into customers(store_id, user_id, created_at, updated_at)
    select pg_temp.store_id(s), pg_temp.user_id(n), now(), now() from joins;
insert into subscriptions(store_id, id, user_id, package_id, has_access, status, amount, currency, interval,
        interval_count, anchor_at, timezone, trial_days, trial_refused, period_number, cancel_at_period_end, test,
        created_at, updated_at, version)
    select pg_temp.store_id(s), gen_random_uuid(), pg_temp.user_id(n), pg_temp.package_id(s, p), true, 'active', 500,
        'EUR', 'month', 1, now(), 'UTC', 0, false, 0, false, false, now(), now(), 1
    from joins;
"""
_FOLLOWS = """
insert into follows(follower_id, followed_id, id)
    select pg_temp.user_id(follower), pg_temp.user_id(followed), gen_random_uuid() from (
        select distinct n as follower, pg_temp.zipf(%(writers)s, 20) as followed
        from generate_series(100, %(writers)s - 1) n, generate_series(1, 30)) x
    where follower <> followed;
insert into follows(follower_id, followed_id, id)
    select pg_temp.user_id(n), pg_temp.user_id(0), gen_random_uuid()
    from generate_series(%(users)s - %(followers)s, %(users)s - 1) n;
"""
_READER = """
insert into follows(follower_id, followed_id, id)
    select pg_temp.user_id(%(reader)s), pg_temp.user_id(n), gen_random_uuid() from unnest(%(followed)s::bigint[]) n;
"""
_POSTS = """
insert into posts(id, feed_id, author_id, store_id, title, body, privacy, status, published_at, created_at, updated_at)
    select id, id, pg_temp.user_id(pg_temp.zipf(%(writers)s, 50)),
        case when x < 0.15 then pg_temp.store_id(pg_temp.zipf(%(stores)s, 10)) end, 'Post ' || n,
        repeat(left(md5(n::text), 6) || ' lorem ipsum dolor sit amet consetetur ', 1 + (n %% 6)::int),
        case when x < 0.05 then 'members' when x < 0.8 then 'public' when x < 0.97 then 'followers' else 'private' end,
        'published', at, at, at
    from (
        select n, pg_temp.post_id(n) as id, to_timestamp(pg_temp.post_ms(n) / 1000.0) as at, random() as x
        from generate_series(0, %(posts)s - 1) n) p;
insert into post_stats(post_id) select id from posts;
"""
# The newest are liked most.
_LIKES = """
insert into likes(post_id, user_id, id)
    select distinct on (p, u) pg_temp.post_id(p), pg_temp.user_id(u), gen_random_uuid()
    from (select %(posts)s - 1 - pg_temp.zipf(%(posts)s, %(posts)s / 20.0) as p, pg_temp.zipf(%(writers)s, 500) as u
        from generate_series(1, %(likes)s)) x;
insert into likes(post_id, user_id, id)
    select pg_temp.post_id(%(posts)s - 5), pg_temp.user_id(n), gen_random_uuid()
    from generate_series(%(users)s - %(likes_of_one)s, %(users)s - 1) n on conflict do nothing;
update posts set privacy = 'public' where id = pg_temp.post_id(%(posts)s - 5);
insert into comments(post_id, id, author_id, body)
    select pg_temp.post_id(p), gen_random_uuid(), pg_temp.user_id(u), 'A comment'
    from (select %(posts)s - 1 - pg_temp.zipf(%(posts)s, %(posts)s / 20.0) as p, pg_temp.zipf(%(writers)s, 50) as u
        from generate_series(1, %(likes)s / 3)) x;
update post_stats s set likes = x.n
    from (select post_id, count(*) n from likes group by 1) x where x.post_id = s.post_id;
update post_stats s set comments = x.n
    from (select post_id, count(*) n from comments group by 1) x where x.post_id = s.post_id;
insert into follow_stats(user_id, followers, following)
    select u, coalesce(a.n, 0), coalesce(b.n, 0) from
        (select followed_id as u, count(*) n from follows group by 1) a
        full join (select follower_id as u, count(*) n from follows group by 1) b using (u);
"""
# What a transaction puts into a table that it has emptied itself is then written once, and not to the log as well.
_SETTINGS = {"wal_level": "minimal", "max_wal_senders": "0", "max_wal_size": "1GB"}
_TABLES = ("posts", "follows", "likes", "comments", "post_stats", "subscriptions", "customers")


@dataclass(frozen=True)
class Size:
    """How many posts there are, and how many follow the star and like one post."""

    posts: int
    followers: int

    @property
    def name(self) -> str:
        return f"feed-{self.posts}-{self.followers}"

    def values(self) -> dict[str, object]:
        return {
            "posts": self.posts,
            "followers": self.followers,
            "likes_of_one": self.followers // 10,
            "likes": min(self.posts, 1_000_000),
            "writers": WRITERS,
            "stores": STORES,
            "users": WRITERS + _READERS + self.followers,
            "began": _BEGAN_MS,
            "step": _YEAR_MS / self.posts,
        }


def user_id(number: int) -> str:
    return str(UUID(md5(f"user{number}".encode()).hexdigest()))


def reader_number(kind: str, followed: int) -> int:
    """The user who follows so many `popular` or `quiet` people."""
    return WRITERS + 10 * ("popular", "quiet").index(kind) + FOLLOWED.index(followed)


@contextmanager
def serving_feeds(size: Size, *, cached: bool = True) -> Iterator[Data]:
    """Start PostgreSQL and Redis with the data; what an earlier run left is used again. Where it is not `cached`, the
    cache's switch is off, as it is while Redis is away."""
    home = HOME / f"data-{size.name}"
    with bare_servers(home, durable=False, settings=_SETTINGS) as (database_url, redis_url):
        yield make_ready(home, database_url, redis_url, lambda cursor: fill(cursor, size), cached=cached)


def fill_feeds(*sizes: Size) -> None:
    """Put in what is missing, for a later run."""
    for size in sizes:
        began = time.monotonic()
        with serving_feeds(size):
            print(f"{size.posts:,} posts are there after {time.monotonic() - began:,.0f} s", flush=True)


def fill(cursor: psycopg2.extensions.cursor, size: Size) -> None:
    """Put the rows in, without indexes and foreign keys, which are made again afterwards. All of it or, where this is
    ended before, nothing: the next run starts with an empty database."""
    print(f"filling {size.posts:,} posts …", flush=True)
    values = size.values()
    cursor.execute("begin")
    cursor.execute("set synchronous_commit = off; set maintenance_work_mem = '512MB'; set work_mem = '256MB'")
    cursor.execute("set enable_seqscan = on; set statement_timeout = 0")
    cursor.execute(_FUNCTIONS, values)
    cursor.execute(f"truncate {', '.join(_TABLES)} cascade")
    remake = _drop_constraints(cursor)
    cursor.execute(_PEOPLE, values)
    cursor.execute(_MEMBERS, values | {"popular": [reader_number("popular", followed) for followed in FOLLOWED]})
    cursor.execute(_FOLLOWS, values)
    for kind in ("popular", "quiet"):
        for followed in FOLLOWED:
            chosen = {"reader": reader_number(kind, followed), "followed": _followed(kind, followed)}
            cursor.execute(_READER, values | chosen)
    cursor.execute(_POSTS, values)
    cursor.execute(_LIKES, values)
    for statement in remake:
        cursor.execute(statement)
    cursor.execute("commit")
    cursor.execute("reset all")


def _followed(kind: str, count: int) -> list[int]:
    """Popular people are followed by many; quiet ones write seldom, and nobody else may follow them."""
    if kind == "quiet":
        return [1000 + place * ((WRITERS - 1000) // count) for place in range(count)]
    chosen: dict[int, None] = {}
    drawn = random.Random(count)
    shift = 20 if count < 5000 else 2000
    while len(chosen) < count:
        chosen[int(min(WRITERS - 1, shift * ((1 + WRITERS / shift) ** drawn.random() - 1)))] = None
    return list(chosen)


def _drop_constraints(cursor: psycopg2.extensions.cursor) -> list[str]:
    """Drop what only slows the filling down, and leave out the triggers that note each row for sync. Returns: the
    statements that make it as it was."""
    remake: list[str] = []
    for table in ("users", "packages", *_TABLES):
        cursor.execute(f"alter table {table} disable trigger user")
        remake.append(f"alter table {table} enable trigger user")
    cursor.execute(
        "select c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid) from pg_constraint c"
        " where c.conrelid::regclass::text = any(%s) and c.contype = 'f'",
        (list(_TABLES),),
    )
    for table, name, definition in cursor.fetchall():
        cursor.execute(f"alter table {table} drop constraint {name}")
        remake.append(f"alter table {table} add constraint {name} {definition} not valid")
    cursor.execute(
        "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i"
        " where i.indrelid = any(array['posts'::regclass, 'follows'::regclass]) and not i.indisunique"
    )
    for name, definition in cursor.fetchall():
        cursor.execute(f"drop index {name}")
        remake.insert(0, definition)
    return remake
