"""The declared reads of posts, comments, likes, followers and blocks.

Every scope holds the viewer (`Viewer.scope`), so each answer is for one viewer, and each row has to pass the predicate
of visibility.py. Where a block hides two users from each other, neither is in the other's numbers, but for the comments
on a post that one of them moderates.
"""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.reads import Computed, Equal, Flag, Many, One, Resource
from dues.reads.resource import Column, Schema, Scope, links_schema
from dues.social.counters import number_of
from dues.social.models import POST_STATUSES, PRIVACIES, Block, Comment, Follow, Like, Post
from dues.social.search import PostSearch
from dues.social.visibility import (
    HAS_HIDDEN,
    HIDDEN,
    MEMBERSHIPS,
    MODERATES,
    POST_IS_VISIBLE,
    USER_IS_VISIBLE,
    VIEWER,
    VISIBLE,
    Viewer,
)
from dues.stores.models import Store
from dues.stores.reads import stores

_COUNT: Schema = {"type": "integer", "minimum": 0}
_BY_ME: Schema = {"type": ["boolean", "null"], "description": "null without a token"}


def _tags(scope: Scope) -> tuple[str, ...]:
    """The tags of these answers, which also follow the journal."""
    viewer = scope.get("viewer")
    return (f"user:{viewer}:sees",) if viewer else ("social",)


def _about(*names: str) -> Callable[[Scope], Sequence[str]]:
    """The ids that a read is about: those in its scope under one of `names`."""
    return lambda scope: [str(scope[name]) for name in names if scope.get(name)]


def _count_tags(user_id: str) -> Callable[[Scope], tuple[str, ...]]:
    return lambda scope: (f"user:{scope[user_id]}:counts", *_tags(scope))


def followed_by_me(user: str) -> Computed:
    """Whether the viewer follows the user that a column names."""
    return Computed(
        f"case when {VIEWER} is not null then exists (select 1 from follows w"
        f" where w.follower_id = {VIEWER} and w.followed_id = {{{user}}}) end",
        _BY_ME,
    )


def visible_count(counted: str, rows: str, all_for: str = "false") -> Computed:
    """A kept number (`counted`, an SQL expression) minus those of `rows` (an SQL join to `hidden_users h`) whose user
    is hidden from the viewer; the whole of it where the SQL condition `all_for` holds."""
    return Computed(
        f"coalesce({counted}, 0) - case when {HAS_HIDDEN} and not {all_for}"
        f" then (select count(*) from hidden_users h join {rows} where h.viewer_id = {VIEWER}) else 0 end",
        _COUNT,
    )


authors = Resource(
    "Author",
    User,
    fields={**users.fields, "followed_by_me": followed_by_me("id")},
    tags=users.tags,
)

comments = Resource(
    "Comment",
    Comment,
    fields={
        "id": Comment.id,
        "post_id": Comment.post_id,
        "author_id": Comment.author_id,
        "body": Comment.body,
        "version": Comment.version,
        "created_at": Comment.created_at,
        "updated_at": Comment.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/posts/' || {post_id} || '/comments/' || {id},"
            " 'post', '/v1/posts/' || {post_id}, 'author', '/v1/users/' || {author_id})",
            links_schema("self", "post", "author"),
        ),
    },
    includes={"author": One(authors, {User.id: Comment.author_id})},
    # An id tells when it was made.
    sorts={"created_at": Comment.id},
    where=f"""({{author_id}} not in {HIDDEN} or exists (
        select 1 from posts p where p.id = {{post_id}} and {Computed(MODERATES, {}).render("p")}))""",
    within=POST_IS_VISIBLE,
    tags=_tags,
    apart=MEMBERSHIPS,
    words=("author_id",),
    subjects=_about("post_id"),
)

_POST_FIELDS: Mapping[str, Column | Computed] = {
    "id": Post.id,
    "author_id": Post.author_id,
    "store_id": Post.store_id,
    "title": Post.title,
    "body": Post.body,
    "privacy": Computed("{privacy}", {"type": "string", "enum": list(PRIVACIES)}),
    "package_ids": Post.package_ids,
    "status": Computed("{status}", {"type": "string", "enum": list(POST_STATUSES)}),
    "publish_at": Post.publish_at,
    "published_at": Post.published_at,
    "version": Post.version,
    "created_at": Post.created_at,
    "updated_at": Post.updated_at,
    "links": Computed(
        "json_build_object('self', '/v1/posts/' || {id}, 'author', '/v1/users/' || {author_id},"
        " 'store', '/v1/stores/' || {store_id}, 'comments', '/v1/posts/' || {id} || '/comments',"
        " 'likes', '/v1/posts/' || {id} || '/likes')",
        links_schema("self", "author", "comments", "likes", nullable=("store",)),
    ),
}

posts = Resource(
    "Post",
    Post,
    fields={
        **_POST_FIELDS,
        "likes_count": visible_count(
            number_of("likes", "{id}"),
            "likes l on l.post_id = {id} and l.user_id = h.user_id",
        ),
        "comments_count": visible_count(
            number_of("comments", "{id}"),
            "comments c on c.post_id = {id} and c.author_id = h.user_id",
            all_for=MODERATES,
        ),
        "liked_by_me": Computed(
            f"case when {VIEWER} is not null then exists (select 1 from likes l"
            f" where l.post_id = {{id}} and l.user_id = {VIEWER}) end",
            _BY_ME,
        ),
        "followed_by_me": followed_by_me("author_id"),
    },
    includes={
        "author": One(authors, {User.id: Post.author_id}),
        "store": One(stores, {Store.id: Post.store_id}),
        "comments": Many(comments, {Comment.post_id: Post.id}),
    },
    filters={
        "author_id": Equal(Post.author_id),
        "store_id": Equal(Post.store_id),
        "privacy": Equal(Post.privacy, PRIVACIES),
        "published": Flag("{status} = 'published'", "{status} <> 'published'", default=True),
    },
    sorts={"published_at": Post.feed_id},
    default_sort="-published_at",
    key="feed_id",
    where=VISIBLE,
    # The list of a user who does not exist for the viewer is a 404, not empty.
    within=f"(%(whose)s::uuid is null or {USER_IS_VISIBLE.format(id='%(whose)s::uuid')})",
    search=PostSearch(),
    tags=_tags,
    apart=MEMBERSHIPS,
    words=("author_id", "store_id", "id"),
    subjects=_about("id", "whose", "store_id"),
)


def posts_scope(viewer: Viewer, whose: UUID | None = None, **columns: UUID) -> Scope:
    """The posts that the viewer may see, of one author (`whose`), or of `columns`."""
    of_author = {"author_id": whose} if whose else {}
    return {**viewer.scope, "whose": whose, **of_author, **columns}


# As webhooks and sync show them: without what depends on a viewer.
told_posts = Resource("Post", Post, fields=_POST_FIELDS, tags=lambda scope: ())
told_comments = Resource("Comment", Comment, fields=comments.fields, tags=lambda scope: ())

likes = Resource(
    "Like",
    Like,
    fields={
        "post_id": Like.post_id,
        "user_id": Like.user_id,
        "created_at": Like.created_at,
        "links": Computed(
            "json_build_object('self', '/v1/posts/' || {post_id} || '/like', 'post', '/v1/posts/' || {post_id},"
            " 'user', '/v1/users/' || {user_id})",
            links_schema("self", "post", "user"),
        ),
    },
    includes={"user": One(authors, {User.id: Like.user_id})},
    sorts={"created_at": Like.id},
    where=f"{{user_id}} not in {HIDDEN}",
    within=POST_IS_VISIBLE,
    tags=_tags,
    apart=MEMBERSHIPS,
    words=("user_id",),
    subjects=_about("post_id"),
)


def _person(user: str, name: str, within: str) -> Resource:
    """A user at one end of a follow, as the other end's list shows them."""
    return Resource(
        name,
        Follow,
        fields={
            "id": Computed(f"{{{user}}}", {"type": "string", "format": "uuid"}),
            "name": Computed(f"(select u.name from users u where u.id = {{{user}}})", {"type": "string"}),
            "followed_by_me": followed_by_me(user),
            "followed_at": Follow.created_at,
            "links": Computed(
                f"json_build_object('self', '/v1/users/' || {{{user}}},"
                f" 'posts', '/v1/users/' || {{{user}}} || '/posts')",
                links_schema("self", "posts"),
            ),
        },
        sorts={"followed_at": Follow.id},
        default_sort="-followed_at",
        where=f"{{{user}}} not in {HIDDEN}",
        within=USER_IS_VISIBLE.format(id=f"%({within})s::uuid"),
        tags=_count_tags(within),
        words=(user,),
        subjects=_about(within),
    )


followers = _person("follower_id", "Follower", "followed_id")
following = _person("followed_id", "Followed", "follower_id")
follows = Resource(
    "Follow",
    Follow,
    fields={
        "id": Follow.id,
        "follower_id": Follow.follower_id,
        "followed_id": Follow.followed_id,
        "created_at": Follow.created_at,
        "links": Computed(
            "json_build_object('follower', '/v1/users/' || {follower_id}, 'followed', '/v1/users/' || {followed_id})",
            links_schema("follower", "followed"),
        ),
    },
    tags=_count_tags("follower_id"),
)

# Whom one has blocked: shown to nobody else.
blocks = Resource(
    "Block",
    Block,
    fields={
        "user_id": Block.blocked_id,
        "name": Computed("(select u.name from users u where u.id = {blocked_id})", {"type": "string"}),
        "created_at": Block.created_at,
        "links": Computed("json_build_object('self', '/v1/me/blocks/' || {blocked_id})", links_schema("self")),
    },
    sorts={"created_at": Block.id},
    tags=lambda scope: (f"user:{scope['blocker_id']}:sees",),
    words=("blocked_id",),
)
