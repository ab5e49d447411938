"""Who may see a post: the one predicate that every read and write of posts, comments and likes uses.

A **viewer** is a user, or None for a caller without a token. A post is visible to

- its author, and the staff of its store, published or not;
- once it is published: to everybody (`public`), to the followers of its author (`followers`), or to those with a
  current membership of its store (`members`), and if `package_ids` names tiers, only to members of one of these;
- but, except for the author and the staff, not where there is a block between the viewer and the author.

What viewers may not see does not exist for them: it is a 404, and in no list, search or count. Nor do the comments,
likes and profiles of users with whom they have a block. But the author of a post, and the staff of its store, see all
comments on it, since they are the ones who can delete them: nobody leaves a comment that only its target cannot find,
by blocking them. A token that is bound to a store shows public posts and that store's.
"""

from dataclasses import dataclass
from uuid import UUID

from dues.errors import Forbidden, NotFound
from dues.postgres import fetch_row
from dues.postgres.connection import Row
from dues.reads import Computed
from dues.reads.resource import Apart, Scope

VIEWER, ONLY_STORE = "%(viewer)s::uuid", "%(only_store)s::uuid"
# The users with whom the viewer has a block, for `… not in`. Each statement reads them once.
HIDDEN = f"(select h.user_id from hidden_users h where h.viewer_id = {VIEWER})"
HAS_HIDDEN = f"exists (select 1 from hidden_users h where h.viewer_id = {VIEWER})"
# The viewer may delete the comments on a post, whose author and store two columns name.
MODERATES = f"""({{author_id}} = {VIEWER}
        or exists (select 1 from store_staff f where f.store_id = {{store_id}} and f.user_id = {VIEWER}))"""
# Of a resource's row, `{column}` as in Computed. `offset 0` has PostgreSQL look for one follow instead of reading all
# of the viewer's, who may follow thousands.
# Memberships are read whole, as nobody has many: Citus asks the servers of stores once, and not for each post.
VISIBLE = f"""(
    ({{status}} = 'published' and {{author_id}} not in {HIDDEN} and (
            {{privacy}} = 'public'
            or {{privacy}} = 'followers' and exists (
                select 1 from follows f where f.follower_id = {VIEWER} and f.followed_id = {{author_id}} offset 0)
            or {{privacy}} = 'members' and {{store_id}} in (
                select m.store_id from memberships m where m.user_id = {VIEWER})
                and (cardinality({{package_ids}}) = 0 or {{package_ids}} && array(
                    select m.package_id from memberships m where m.user_id = {VIEWER})))
        or {MODERATES})
    and ({ONLY_STORE} is null or {{store_id}} = {ONLY_STORE} or {{status}} = 'published' and {{privacy}} = 'public'))
"""

# The viewer's memberships, where they are to be read first. Column by column: of a whole row that comes from several
# servers, Citus does not know the names.
MEMBERSHIPS = Apart(
    "memberships m",
    f"""
    select coalesce(json_agg(json_build_object(
        'store_id', m.store_id, 'user_id', m.user_id, 'package_id', m.package_id)), '[]')::text
    from memberships m where m.user_id = {VIEWER}
    """,
    "store_id uuid, user_id uuid, package_id uuid",
)


def visible_to(user: str, memberships: str = "memberships") -> str:
    """The same predicate for a user whom an SQL expression names, in place of the viewer. `memberships` is where those
    are found."""
    named = VISIBLE.replace(VIEWER, user).replace(ONLY_STORE, "null::uuid")
    return named.replace("from memberships m", f"from {memberships} m")


# A post that `%(post_id)s` names is there for the viewer.
POST_IS_VISIBLE = (
    f"""exists (select 1 from posts p where p.id = %(post_id)s::uuid and {Computed(VISIBLE, {}).render("p")})"""
)
# A user that an SQL expression names is there for the viewer.
USER_IS_VISIBLE = f"""exists (
    select 1 from users u where u.id = {{id}} and u.deleted_at is null and u.id not in {HIDDEN})"""

# What decides who may write to the post that `%(post_id)s` names, or to what hangs on it; no row where it is not there
# for the viewer. A statement that writes may be built around it.
LOOK_AT_POST = f"""
    select p.author_id, p.store_id, p.status,
        (select f.role from store_staff f where f.store_id = p.store_id and f.user_id = {VIEWER}) as role,
        exists (select 1 from likes l where l.post_id = p.id and l.user_id = {VIEWER}) as is_liked
    from posts p where p.id = %(post_id)s::uuid and {Computed(VISIBLE, {}).render("p")}
"""
_USER = f"select {USER_IS_VISIBLE.format(id='%(user_id)s::uuid')}"
_IS_HIDDEN = "select 1 from hidden_users where viewer_id = %(viewer)s and user_id = %(user_id)s"


@dataclass(frozen=True)
class Viewer:
    """Who looks: `user_id` is None without a token; `only_store` is the store that the token is bound to, if it is."""

    user_id: UUID | None = None
    only_store: UUID | None = None

    @property
    def scope(self) -> dict[str, UUID | None]:
        """As reads bind it."""
        return {"viewer": self.user_id, "only_store": self.only_store}


@dataclass(frozen=True)
class SeenPost:
    """What decides who may write to a post, or to what hangs on it. `role` is the viewer's in the post's store;
    `is_liked`: by the viewer."""

    id: UUID
    author_id: UUID
    store_id: UUID | None
    is_published: bool
    role: str | None
    is_liked: bool

    def is_moderated_by(self, viewer: Viewer) -> bool:
        """Whether the viewer may delete the comments on it, and so sees all of them."""
        return self.author_id == viewer.user_id or self.role is not None


def values_of(scope: Scope) -> dict[str, object]:
    """A scope as a statement takes it: ids as text."""
    return {name: str(value) if isinstance(value, UUID) else value for name, value in scope.items()}


def look_at_post(viewer: Viewer, post_id: UUID) -> SeenPost:
    """Raises: NotFound where the viewer may not see it."""
    return seen_post(post_id, fetch_row(LOOK_AT_POST, look_values(viewer, post_id), hot=True))


def look_values(viewer: Viewer, post_id: UUID) -> dict[str, object]:
    """What LOOK_AT_POST takes."""
    return values_of({**viewer.scope, "post_id": post_id})


def seen_post(post_id: UUID, row: Row | None) -> SeenPost:
    """What a row that begins with the columns of LOOK_AT_POST says. Raises: NotFound where there is none."""
    if row is None:
        raise NotFound("there is no such post")
    author_id, store_id, status, role, is_liked, *_ = row
    return SeenPost(post_id, author_id, store_id, status == "published", role, is_liked)


def require_same_store(viewer: Viewer, store_id: UUID | None) -> None:
    """A token that is bound to a store writes to nothing else. Raises: Forbidden."""
    if viewer.only_store not in (None, store_id):
        raise Forbidden("the token is bound to another store", code="wrong_store")


def require_user(viewer: Viewer, user_id: UUID) -> None:
    """Raises: NotFound for a user who is not there, or with whom the viewer has a block."""
    row = fetch_row(_USER, values_of({"viewer": viewer.user_id, "user_id": user_id}), hot=True)
    if row is None or not row[0]:
        raise NotFound("there is no such user")


def is_hidden(viewer: Viewer, user_id: UUID) -> bool:
    """Whether there is a block between the two."""
    return fetch_row(_IS_HIDDEN, {"viewer": viewer.user_id, "user_id": user_id}, hot=True) is not None
