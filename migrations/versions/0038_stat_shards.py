"""Likes and comments that are counted aside while the row of a post is locked: see dues/social/counters.py."""

from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.execute(
        """
        create table post_stat_shards(
            post_id uuid not null references posts on delete cascade,
            shard smallint not null,
            likes bigint not null default 0,
            comments bigint not null default 0,
            primary key (post_id, shard)
        ) with (fillfactor = 80)
        """
    )
    # What is taken back may be taken from another row than it was added to: only the sum is never negative.
    op.execute(
        "alter table post_stats drop constraint post_stats_likes_check, drop constraint post_stats_comments_check"
    )


def downgrade() -> None:
    op.execute(
        "update post_stats p set likes = p.likes + s.likes, comments = p.comments + s.comments from ("
        " select post_id, sum(likes)::bigint as likes, sum(comments)::bigint as comments from post_stat_shards"
        " group by post_id) s where s.post_id = p.post_id"
    )
    op.execute("alter table post_stats add check (likes >= 0), add check (comments >= 0)")
    op.execute("drop table post_stat_shards")
