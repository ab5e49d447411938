"""Writing posts: made, edited, published, deleted. Each function is part of its caller's transaction.

A person's post is its author's to change. A store's post is its managers' and owners', whoever wrote it. It is a
`draft`, or `scheduled` for a time at which a job publishes it, or `published`, which it stays.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import select

from dues.chosen_ids import id_of_new
from dues.clock import Moment, now, rfc3339
from dues.errors import Fault, Forbidden, InvalidTransition, NotFound, ValidationFailed
from dues.events import EventType, emit, emit_deletion
from dues.ids import new_id
from dues.jobs.kinds import POST_PUBLISH
from dues.jobs.outbox import enqueue
from dues.packages.models import Package
from dues.postgres import db, run_later
from dues.reads.tags import record_change
from dues.social.models import Post, Privacy
from dues.social.reads import told_posts
from dues.social.visibility import SeenPost, Viewer, look_at_post, require_same_store
from dues.stores.models import Staff, Store
from dues.text import OneLine, Paragraphs

Title = Annotated[OneLine, Meta(min_length=1, max_length=300)]
Body = Annotated[Paragraphs, Meta(min_length=1, max_length=50_000)]
PackageIds = Annotated[list[UUID], Meta(max_length=20)]

_WRITERS = ("manager", "owner")

# An unpublished post has its own id as its `feed_id`.
_TAKEN = """
    select from posts where id = %(id)s::uuid union all select from posts where feed_id = %(id)s::uuid
"""
_STATS = "insert into post_stats(post_id) values (%(id)s)"
_FORGET_PACKAGES = "delete from post_packages where post_id = %(id)s"
_KEEP_PACKAGES = """
    insert into post_packages(store_id, package_id, feed_id, post_id, author_id)
    select %(store_id)s, package_id, %(feed_id)s, %(id)s, %(author_id)s from unnest(%(package_ids)s::uuid[]) package_id
"""


class NewPost(Struct, forbid_unknown_fields=True):
    """A post: one's own, or with `store_id` a store's. `package_ids` are the tiers whose members may see it where
    `privacy` is `members`; none: all members of the store. It is published at once, at `publish_at`, or kept as a
    draft."""

    body: Body
    privacy: Privacy
    title: Title | None = None
    store_id: UUID | None = None
    package_ids: PackageIds = []
    status: Literal["draft", "published"] = "published"
    publish_at: Moment | None = None


class PostChange(Struct, forbid_unknown_fields=True):
    """What may be changed of a post. `status` publishes a draft, or takes back the time of one that is scheduled."""

    body: Body | UnsetType = UNSET
    privacy: Privacy | UnsetType = UNSET
    title: Title | UnsetType | None = UNSET
    package_ids: PackageIds | UnsetType = UNSET
    status: Literal["draft", "published"] | UnsetType = UNSET
    publish_at: Moment | UnsetType | None = UNSET


def create_post(viewer: Viewer, new: NewPost, chosen_id: UUID | None = None) -> Post:
    """Raises: ValidationFailed; Forbidden for a store's post by somebody who is not among its managers or owners;
    Conflict for a chosen id that is taken."""
    assert viewer.user_id
    require_same_store(viewer, new.store_id)
    if new.store_id:
        _require_writer(new.store_id, viewer.user_id)
    package_ids = list(dict.fromkeys(new.package_ids))
    _check_audience(new.store_id, new.privacy, package_ids)
    post_id = id_of_new(chosen_id, "post", viewer.user_id, _TAKEN, {})
    post = Post(
        id=post_id,
        feed_id=post_id,
        author_id=viewer.user_id,
        store_id=new.store_id,
        title=new.title,
        body=new.body,
        privacy=new.privacy,
        package_ids=package_ids,
        status="draft",
        publish_at=None,
        published_at=None,
        created_at=now(),
    )
    is_published = _move(post, new.status, new.publish_at)
    db.session.add(post)
    run_later(_STATS, {"id": post_id})
    if is_published:
        _index_packages(post)
        _tell(post, "post.published")
    _is_changed(post, public=is_published and post.privacy == "public")
    return post


def get_post(viewer: Viewer, post_id: UUID) -> Post:
    """The post, locked for this transaction, by somebody who may change it. Raises: NotFound; Forbidden."""
    seen = look_at_post(viewer, post_id)
    require_same_store(viewer, seen.store_id)
    if not is_writer(viewer, seen):
        raise Forbidden("this is for the post's author" if seen.store_id is None else _FOR_MANAGERS)
    post = _lock(post_id)
    if post is None:
        raise NotFound("there is no such post")
    return post


def is_writer(viewer: Viewer, seen: SeenPost) -> bool:
    return seen.author_id == viewer.user_id if seen.store_id is None else seen.role in _WRITERS


def change_post(post: Post, change: PostChange) -> None:
    """Raises: ValidationFailed; InvalidTransition for a published post that is to be no longer."""
    was_shown, was_public, version = post.status == "published", post.privacy == "public", post.version
    privacy = post.privacy if change.privacy is UNSET else change.privacy
    package_ids = post.package_ids if change.package_ids is UNSET else list(dict.fromkeys(change.package_ids))
    if change.package_ids is UNSET and privacy != "members":
        # Only a post for members has tiers.
        package_ids = []
    _check_audience(post.store_id, privacy, package_ids)
    post.privacy, post.package_ids = privacy, package_ids
    if change.title is not UNSET:
        post.title = change.title
    if change.body is not UNSET:
        post.body = change.body
    is_published = _move(post, change.status, change.publish_at)
    db.session.flush()
    if post.version == version:
        return
    if post.status == "published":
        _index_packages(post)
        _tell(post, "post.published" if is_published else "post.updated")
    _is_changed(post, public=(was_shown and was_public) or (post.status == "published" and privacy == "public"))


def publish_scheduled(post_id: UUID, publish_at: str) -> None:
    """Publish a post that is still scheduled for this time (RFC 3339); otherwise its schedule was changed since."""
    post = _lock(post_id)
    if post is None or post.publish_at is None or rfc3339(post.publish_at) != publish_at:
        return
    _publish(post)
    _index_packages(post)
    _tell(post, "post.published")
    _is_changed(post, public=post.privacy == "public")


def delete_post(post: Post) -> None:
    """With all that hangs on it."""
    is_shown = post.status == "published"
    if post.store_id and is_shown:
        emit_deletion(post.store_id, "post.deleted", told_posts, {"id": post.id})
    _is_changed(post, public=is_shown and post.privacy == "public")
    db.session.delete(post)


def _lock(post_id: UUID) -> Post | None:
    """The post, locked for this transaction against other changes; it can be liked and commented on meanwhile."""
    return db.session.get(Post, post_id, with_for_update={"key_share": True})


def _move(post: Post, status: str | UnsetType, publish_at: datetime | UnsetType | None) -> bool:
    """The only place where a post's status changes. Returns: whether this publishes it. Raises: ValidationFailed;
    InvalidTransition."""
    if status == "draft" and isinstance(publish_at, datetime):
        raise ValidationFailed.of("#/publish_at", "a draft has no time to be published at", code="conflict")
    if post.status == "published":
        if status == "draft" or isinstance(publish_at, datetime):
            raise InvalidTransition("the post is published already; `private` hides it from others")
        return False
    if isinstance(publish_at, datetime):
        _schedule(post, publish_at)
    elif status == "published":
        _publish(post)
        return True
    elif status == "draft" or publish_at is None:
        post.status, post.publish_at = "draft", None
    return False


def _schedule(post: Post, publish_at: datetime) -> None:
    if publish_at <= now():
        raise ValidationFailed.of("#/publish_at", "has to be in the future", code="range")
    if post.publish_at == publish_at:
        return
    post.status, post.publish_at = "scheduled", publish_at
    args = {"post_id": str(post.id), "publish_at": rfc3339(publish_at)}
    enqueue(POST_PUBLISH, args, owner_id=post.author_id, store_id=post.store_id, run_at=publish_at)


def _publish(post: Post) -> None:
    post.status, post.publish_at = "published", None
    post.published_at, post.feed_id = now(), new_id()


def _tell(post: Post, event_type: EventType) -> None:
    if post.store_id:
        emit(post.store_id, event_type, told_posts, {"id": post.id})


def _is_changed(post: Post, *, public: bool) -> None:
    record_change(post.author_id, post.id, post.store_id, public=public)


def _index_packages(post: Post) -> None:
    """Write the rows by which a published post is found for the members of its packages."""
    names = ("id", "feed_id", "store_id", "author_id", "package_ids")
    values = {name: getattr(post, name) for name in names}
    run_later(_FORGET_PACKAGES, values)
    if post.package_ids:
        run_later(_KEEP_PACKAGES, values)


_FOR_MANAGERS = "posts of a store are written by its managers and those above"


def _require_writer(store_id: UUID, user_id: UUID) -> None:
    role = db.session.scalar(select(Staff.role).where(Staff.store_id == store_id, Staff.user_id == user_id))
    if role in _WRITERS:
        return
    if role is None and db.session.get(Store, store_id) is None:
        raise ValidationFailed.of("#/store_id", "there is no such store", code="unknown_store")
    raise Forbidden(_FOR_MANAGERS)


def _check_audience(store_id: UUID | None, privacy: str, package_ids: list[UUID]) -> None:
    """Raises: ValidationFailed with all that is wrong with whom a post is for."""
    faults = list(_audience_faults(store_id, privacy, package_ids))
    if faults:
        raise ValidationFailed("; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults), errors=faults)


def _audience_faults(store_id: UUID | None, privacy: str, package_ids: list[UUID]) -> Iterator[Fault]:
    if privacy == "members" and store_id is None:
        yield Fault(code="conflict", detail="only a store's post can be for members", pointer="#/privacy")
    if not package_ids:
        return
    if privacy != "members":
        yield Fault(code="conflict", detail="tiers are for posts to `members`", pointer="#/package_ids")
        return
    there = set(db.session.scalars(select(Package.id).where(Package.store_id == store_id, Package.id.in_(package_ids))))
    for place, package_id in enumerate(package_ids):
        if package_id not in there:
            yield Fault(
                code="unknown_package", detail="is not a package of the store", pointer=f"#/package_ids/{place}"
            )
