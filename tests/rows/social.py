"""Makes posts for tests, and what people do with them and with each other."""

from datetime import UTC, datetime
from types import SimpleNamespace as Row
from typing import Any

from dues.ids import new_id
from tests.rows.people import PeopleRows


class SocialRows(PeopleRows):
    """Posts, comments, likes, follows and blocks."""

    def post(self, author: Row, *, store: Row | None = None, status: str = "published", **columns: Any) -> Row:
        """A post, public and published unless said otherwise; `package_ids` in `columns` are its tiers."""
        post_id = new_id()
        defaults = {
            "id": post_id,
            "feed_id": post_id,
            "author_id": author.id,
            "store_id": store.id if store else None,
            "title": "New wall",
            "body": "Something new",
            "privacy": "public",
            "status": status,
            "published_at": datetime.now(UTC) if status == "published" else None,
        }
        package_ids = list(map(str, columns.pop("package_ids", ())))
        post = self.insert("posts", defaults | columns)
        self.rows("insert into post_stats(post_id) values (%(id)s)", {"id": post.id})
        if package_ids:
            values = {"id": post.id, "packages": package_ids, "published": status == "published"}
            self.rows("update posts set package_ids = %(packages)s::uuid[] where id = %(id)s", values)
            self.rows(
                "insert into post_packages select store_id, unnest(package_ids), feed_id, id, author_id from posts"
                " where id = %(id)s and %(published)s",
                values,
            )
        return post

    def comment(self, post: Row, author: Row | None = None, **columns: Any) -> Row:
        author = author or self.user()
        defaults = {"post_id": post.id, "id": new_id(), "author_id": author.id, "body": "Well said"}
        comment = self.insert("comments", defaults | columns)
        self.rows("update post_stats set comments = comments + 1 where post_id = %(id)s", {"id": post.id})
        return comment

    def like(self, post: Row, user: Row) -> Row:
        like = self.insert("likes", {"post_id": post.id, "user_id": user.id, "id": new_id()})
        self.rows("update post_stats set likes = likes + 1 where post_id = %(id)s", {"id": post.id})
        return like

    def follow(self, follower: Row, followed: Row) -> Row:
        """`follower` follows `followed`."""
        follow = self.insert("follows", {"follower_id": follower.id, "followed_id": followed.id, "id": new_id()})
        for name, user in (("following", follower), ("followers", followed)):
            self.rows(
                f"insert into follow_stats as s (user_id, {name}) values (%(id)s, 1)"
                f" on conflict (user_id) do update set {name} = s.{name} + 1",
                {"id": user.id},
            )
        return follow

    def block(self, blocker: Row, blocked: Row) -> Row:
        return self.insert("blocks", {"blocker_id": blocker.id, "blocked_id": blocked.id, "id": new_id()})
