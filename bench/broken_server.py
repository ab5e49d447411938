"""Dues with one rule of its cache broken: tags are touched, and the journal is written, after the commit. The prover
must find stale reads.

The touch is delayed by 10 ms after the commit, as if Redis were far away (normally it takes about 0.2 ms), so that
stale reads are found soon.
"""

import time

import dues.postgres.transactions
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads import freshness
from dues.reads.freshness.journal import pack_words
from server import app

_FAR_S = 0.01


def _touch_late(work: UnitOfWork) -> None:
    (number,) = work.execute("select pg_current_xact_id()::text", {}, hot=True) or ("",)
    generation = freshness.fresh_cache().poller.generation()
    tags, words = sorted(work.tags), pack_words(work.words)
    if generation is None or not (tags or words):
        return

    def touch() -> None:
        time.sleep(_FAR_S)
        freshness.fresh_cache().store.touch(generation, tags, number, words)

    work.after_commit.append(touch)


dues.postgres.transactions._before_commit[:] = [_touch_late]

__all__ = ["app"]
