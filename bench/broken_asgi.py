"""Dues with one rule of its cache broken: tags are touched after the commit. The prover must find stale reads."""

import dues.db
from asgi import app
from dues.reads import freshness


def _touch_late(session, work):
    xid = session.connection().connection.cursor()
    xid.execute("select pg_current_xact_id()::text")
    (number,) = xid.fetchone()
    generation = freshness.fresh_cache().poller.generation()
    tags = sorted(work.tags)
    if tags and generation is not None:
        work.after_commit.append(lambda: freshness.fresh_cache().store.touch(generation, tags, number))


dues.db._before_commit[:] = [_touch_late]

__all__ = ["app"]
