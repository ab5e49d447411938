"""Tables of posts, comments, likes, follows and blocks.

post_stats, post_packages and follow_stats have no model: they are written and read with SQL alone.
"""

from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import Computed, ForeignKey, Uuid
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, deferred, mapped_column

from dues.accounts.models import User
from dues.clock import now
from dues.postgres import Model, Versioned
from dues.stores.models import Store

Privacy = Literal["public", "followers", "members", "private"]
PRIVACIES: tuple[Privacy, ...] = get_args(Privacy)
PostStatus = Literal["draft", "scheduled", "published"]
POST_STATUSES: tuple[PostStatus, ...] = get_args(PostStatus)

# What a post is found by: words of its title count more. No language is assumed.
_SEARCH = "setweight(to_tsvector('simple', coalesce(title, '')), 'A') || to_tsvector('simple', body)"


class Post(Versioned, Model):
    """A person's post, or with `store_id` a store's, written by `author_id`.

    `feed_id` is where it stands in lists: an id drawn when it was published, and until then its own. `package_ids` are
    the tiers whose members may see a post with the privacy `members`; none: all members of the store may.
    """

    __tablename__ = "posts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    feed_id: Mapped[UUID]
    author_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    store_id: Mapped[UUID | None] = mapped_column(ForeignKey(Store.id))
    title: Mapped[str | None]
    body: Mapped[str]
    privacy: Mapped[str]
    package_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid()))
    status: Mapped[str]
    publish_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    search: Mapped[str | None] = deferred(mapped_column(TSVECTOR, Computed(_SEARCH, persisted=True)))


class Comment(Versioned, Model):
    __tablename__ = "comments"

    post_id: Mapped[UUID] = mapped_column(ForeignKey(Post.id, ondelete="CASCADE"), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    author_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    body: Mapped[str]


class Like(Model):
    """`id` orders a post's likes by time."""

    __tablename__ = "likes"

    post_id: Mapped[UUID] = mapped_column(ForeignKey(Post.id, ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Follow(Model):
    """`id` orders followers and the followed by time."""

    __tablename__ = "follows"

    follower_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    followed_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=now)


class Block(Model):
    """Each is invisible to the other (the view `hidden_users`)."""

    __tablename__ = "blocks"

    blocker_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    blocked_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(default=now)
