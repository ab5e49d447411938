"""Posts, comments, likes, follows and blocks; who is a member of which store.

A post's `feed_id` is where it stands in every list: an id drawn when it was published (until then, its own). Each
index that ends with it holds the published posts that some reader may see for one reason, so that a list which looks
for those reads no others: dues/feeds/query.py says which.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

POSTS = """
create table posts(
    id uuid primary key,
    feed_id uuid not null,
    author_id uuid not null references users,
    store_id uuid references stores,
    title text,
    body text not null,
    privacy text not null check (privacy in ('public', 'followers', 'members', 'private')),
    package_ids uuid[] not null default '{}',
    status text not null check (status in ('draft', 'scheduled', 'published')),
    publish_at timestamptz,
    published_at timestamptz,
    search tsvector generated always as (
        setweight(to_tsvector('simple', coalesce(title, '')), 'A') || to_tsvector('simple', body)) stored,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check ((publish_at is not null) = (status = 'scheduled')),
    check ((published_at is not null) = (status = 'published')),
    check (store_id is not null or privacy <> 'members'),
    check (privacy = 'members' or cardinality(package_ids) = 0)
) with (autovacuum_vacuum_insert_scale_factor = 0.02);
create unique index posts_feed_id_key on posts(feed_id);
create index posts_author_id_feed_id_idx on posts(author_id, feed_id desc) where status = 'published';
create index posts_store_id_feed_id_idx on posts(store_id, feed_id desc)
    where status = 'published' and store_id is not null;
create index posts_public_feed_id_idx on posts(feed_id desc) include (author_id)
    where status = 'published' and privacy = 'public';
create index posts_followed_feed_id_idx on posts(feed_id desc) include (author_id)
    where status = 'published' and privacy in ('public', 'followers');
create index posts_followed_author_id_feed_id_idx on posts(author_id, feed_id desc)
    where status = 'published' and privacy in ('public', 'followers');
create index posts_members_store_id_feed_id_idx on posts(store_id, feed_id desc) include (author_id)
    where status = 'published' and privacy in ('public', 'members') and cardinality(package_ids) = 0
        and store_id is not null;
create index posts_unpublished_author_id_feed_id_idx on posts(author_id, feed_id desc) where status <> 'published';
create index posts_unpublished_store_id_feed_id_idx on posts(store_id, feed_id desc)
    where status <> 'published' and store_id is not null;
create index posts_search_idx on posts using gin(search) where status = 'published';

-- A published post for each package that its package_ids name: the newest for a package, without reading the others.
create table post_packages(
    store_id uuid not null,
    package_id uuid not null,
    feed_id uuid not null,
    post_id uuid not null references posts on delete cascade,
    author_id uuid not null,
    primary key (package_id, feed_id) include (author_id),
    foreign key (store_id, package_id) references packages
);
create index post_packages_post_id_idx on post_packages(post_id);

-- Apart from their posts and users, and with room on each page: counting on is an update in place.
create table post_stats(
    post_id uuid primary key references posts on delete cascade,
    likes bigint not null default 0 check (likes >= 0),
    comments bigint not null default 0 check (comments >= 0)
) with (fillfactor = 80);
"""

RESPONSES = """
create table comments(
    post_id uuid not null references posts on delete cascade,
    id uuid not null,
    author_id uuid not null references users,
    body text not null,
    version bigint not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (post_id, id)
);
create index comments_post_id_author_id_idx on comments(post_id, author_id);

create table likes(
    post_id uuid not null references posts on delete cascade,
    user_id uuid not null references users,
    id uuid not null,
    created_at timestamptz not null default now(),
    primary key (post_id, user_id)
);
create index likes_post_id_id_idx on likes(post_id, id);
"""

PEOPLE = """
create table follows(
    follower_id uuid not null references users,
    followed_id uuid not null references users,
    id uuid not null,
    created_at timestamptz not null default now(),
    primary key (follower_id, followed_id),
    check (follower_id <> followed_id)
) with (autovacuum_vacuum_insert_scale_factor = 0.02);
create index follows_follower_id_id_idx on follows(follower_id, id);
create index follows_followed_id_id_idx on follows(followed_id, id);

create table follow_stats(
    user_id uuid primary key references users,
    followers bigint not null default 0 check (followers >= 0),
    following bigint not null default 0 check (following between 0 and 5000)
) with (fillfactor = 80);

create table blocks(
    blocker_id uuid not null references users,
    blocked_id uuid not null references users,
    id uuid not null,
    created_at timestamptz not null default now(),
    primary key (blocker_id, blocked_id),
    check (blocker_id <> blocked_id)
);
create index blocks_blocker_id_id_idx on blocks(blocker_id, id);
create index blocks_blocked_id_blocker_id_idx on blocks(blocked_id, blocker_id);

-- A block works both ways: for each user, all who are invisible to them.
create view hidden_users as
    select blocker_id as viewer_id, blocked_id as user_id from blocks
    union all select blocked_id, blocker_id from blocks;
"""

# Who may read what a store keeps for its members, and until when. Subscriptions take the place of the table.
MEMBERSHIPS = """
create table store_members(
    store_id uuid not null references stores,
    user_id uuid not null references users,
    package_id uuid not null,
    access_until timestamptz not null,
    primary key (store_id, user_id, package_id),
    foreign key (store_id, package_id) references packages
);
create index store_members_user_id_idx on store_members(user_id);

create view memberships as
    select store_id, user_id, package_id, access_until from store_members where access_until > now();
"""


def upgrade() -> None:
    for part in (POSTS, RESPONSES, PEOPLE, MEMBERSHIPS):
        op.execute(part)


def downgrade() -> None:
    op.execute("drop view memberships, hidden_users")
    op.execute(
        "drop table store_members, blocks, follow_stats, follows, likes, comments, post_stats, post_packages, posts"
    )
