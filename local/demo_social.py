"""Demo posts: a year of posts by the demo's people and stores, with followers, likes and comments, and a mailing of the
first store's newest public post.

As in real networks, a few people are followed by nearly everybody, write most and get most of the likes (Zipf's law).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from dues.accounts.models import User
from dues.reads.tags import record_change, touch
from dues.social.models import Comment, Follow, Like, Post
from dues.stores.models import Staff, Store
from local.dice import Dice

POSTS = 2_000

_YEAR = timedelta(days=365)
_MOST_FOLLOWED, _MOST_LIKES, _MOST_COMMENTS = 20, 12, 4
_PRIVACIES = ("public", "public", "public", "followers", "private")
_STORES_PRIVACIES = ("public", "public", "followers", "members")
_OPENINGS = (
    "Up early for",
    "Finally managed",
    "Still thinking about",
    "Come and join",
    "Nobody told me about",
    "Best of",
)
_SUBJECTS = (
    "the north wall",
    "a new zine",
    "the evening show",
    "the yearly meeting",
    "the beginners' course",
    "the river",
)
_ENDINGS = (
    "See you there.",
    "Photos follow.",
    "Worth every minute.",
    "Who is in?",
    "More of that, please.",
    "Next week again.",
)
_ANSWERS = ("Well said.", "Count me in.", "When is the next one?", "I was there too.", "Thank you for this.")
_COUNT = """
    insert into post_stats(post_id, likes, comments)
        select p.id, (select count(*) from likes l where l.post_id = p.id),
            (select count(*) from comments c where c.post_id = p.id)
        from posts p;
    insert into follow_stats(user_id, followers, following)
        select u.id, (select count(*) from follows f where f.followed_id = u.id),
            (select count(*) from follows f where f.follower_id = u.id)
        from users u
"""
# A mailing that reached the followers of the post's author within minutes. One address bounced, and one reader
# unsubscribed.
_MAIL = """
    with post as (
        select * from posts where store_id = %(store_id)s and privacy = 'public' order by feed_id desc limit 1),
    readers as (
        select f.follower_id as user_id, row_number() over (order by f.follower_id desc) as number
        from follows f join post on f.followed_id = post.author_id),
    mailing as (
        insert into mailings(store_id, id, post_id, requested_by, subject, body, status, recipients, sent, bounced,
            unsubscribed, started_at, finished_at, created_at, updated_at)
        select store_id, %(id)s, id, author_id, title, body, 'succeeded', sent, sent, 1, 1, at,
            at + interval '3 minutes', at, at + interval '1 hour'
        from post, lateral (select published_at + interval '1 minute' as at) moment,
            (select count(*) as sent from readers having count(*) > 1) counted
        returning store_id, id, post_id, started_at),
    suppressed as (
        insert into mail_suppressions(store_id, user_id, reason, address)
        select m.store_id, u.id, (array['bounced', 'unsubscribed'])[r.number], u.email_normal
        from mailing m, readers r join users u on u.id = r.user_id where r.number <= 2)
    insert into mailing_recipients(store_id, post_id, user_id, mailing_id, domain, status, next_at, bounced_at,
        unsubscribed_at)
    select m.store_id, m.post_id, r.user_id, m.id, 'dues.example', 'sent', m.started_at,
        case when r.number = 1 then m.started_at + interval '5 minutes' end,
        case when r.number = 2 then m.started_at + interval '1 hour' end
    from mailing m, readers r
"""
Row = dict[str, Any]


def load_posts(session: Session, dice: Dice) -> Sequence[str]:
    """Load the social data, unless there are posts or follows already. Returns: the tables that it filled."""
    if session.scalar(select(Post.id).limit(1)) or session.scalar(select(Follow.id).limit(1)):
        return ()
    people = session.scalars(select(User.id).order_by(User.id)).all()
    writers = _writers(session)
    rows = _follows(dice, people), *_posts(dice, people, writers)
    for model, found in zip((Follow, Post, Like, Comment), rows, strict=True):
        session.execute(insert(model), found)
    session.execute(text(_COUNT))
    if writers:
        _mail(session, dice, writers[0][0])
    record_change(*people, *(store_id for store_id, _ in writers), public=True)
    touch(*(f"user:{user_id}:{what}" for user_id in people for what in ("sees", "counts")))
    return "posts", "follows", "likes", "comments", "post_stats", "follow_stats"


def _writers(session: Session) -> Sequence[tuple[UUID, UUID]]:
    """Each store and its manager."""
    found = select(Store.id, Staff.user_id).join(Staff, Staff.store_id == Store.id).where(Staff.role == "manager")
    return [(store_id, user_id) for store_id, user_id in session.execute(found.order_by(Store.id))]


def _mail(session: Session, dice: Dice, store_id: UUID) -> None:
    cursor = session.connection().connection.cursor()
    cursor.execute(_MAIL, {"store_id": str(store_id), "id": str(dice.id(dice.moment))})
    cursor.close()


def _follows(dice: Dice, people: Sequence[UUID]) -> list[Row]:
    rows = []
    for follower in people:
        others = [one for one in _many(dice, people, _MOST_FOLLOWED) if one != follower]
        for followed in others:
            at = dice.moment - _YEAR * dice.rng.random()
            rows.append({"follower_id": follower, "followed_id": followed, "id": dice.id(at), "created_at": at})
    return rows


def _posts(
    dice: Dice, people: Sequence[UUID], writers: Sequence[tuple[UUID, UUID]]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Posts, likes and comments, oldest post first."""
    posts, likes, comments = [], [], []
    for number in range(POSTS):
        at = dice.moment - _YEAR * (1 - (number + dice.rng.random()) / POSTS)
        is_stores = bool(writers) and dice.rng.random() < 0.15
        store_id, author_id = dice.rng.choice(writers) if is_stores else (None, _one(dice, people))
        post = _post(dice, at, store_id, author_id)
        posts.append(post)
        if post["privacy"] != "public":
            continue
        for user_id in _many(dice, people, _MOST_LIKES):
            later = at + (dice.moment - at) * dice.rng.random() ** 3
            likes.append({"post_id": post["id"], "user_id": user_id, "id": dice.id(later), "created_at": later})
        for _ in range(dice.rng.randrange(_MOST_COMMENTS)):
            later = at + (dice.moment - at) * dice.rng.random() ** 3
            said = {"author_id": dice.rng.choice(people), "body": dice.rng.choice(_ANSWERS)}
            made = {"created_at": later, "updated_at": later}
            comments.append({"post_id": post["id"], "id": dice.id(later), **said, **made})
    return posts, likes, comments


def _post(dice: Dice, at: Any, store_id: UUID | None, author_id: UUID) -> Row:
    rng, post_id = dice.rng, dice.id(at)
    subject = rng.choice(_SUBJECTS)
    return {
        "id": post_id,
        "feed_id": post_id,
        "author_id": author_id,
        "store_id": store_id,
        "title": subject.capitalize() if store_id else None,
        "body": f"{rng.choice(_OPENINGS)} {subject}. {rng.choice(_ENDINGS)}",
        "privacy": rng.choice(_STORES_PRIVACIES if store_id else _PRIVACIES),
        "package_ids": [],
        "status": "published",
        "published_at": at,
        "created_at": at,
        "updated_at": at,
    }


def _one(dice: Dice, people: Sequence[UUID]) -> UUID:
    """A random one of them; the first is far more likely than the last."""
    return people[int(len(people) ** dice.rng.random()) - 1]


def _many(dice: Dice, people: Sequence[UUID], most: int) -> list[UUID]:
    """Up to `most` of them, each at most once."""
    return list(dict.fromkeys(_one(dice, people) for _ in range(dice.rng.randint(0, most))))
