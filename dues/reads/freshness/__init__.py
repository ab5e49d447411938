"""Cached answers that are never stale. docs/freshness.md has the protocol and its proof.

read_protocol.py  how an answer is taken from the cache, or computed and kept: the rules, without I/O
reader.py         the same on a thread (on the event loop: api/server/loop_reader.py)
writer.py         the place a unit of work touches its tags before it commits
journal.py        what was changed lately, for answers that depend on more than a few tags
store.py          what lies in Redis, and the calls on it
lua.py            the scripts that change it
validator.py      what must still hold for an answer to be fresh
snapshot.py       whether an answer has seen all that touched its tags
switch.py         the one row in PostgreSQL that turns the cache off when a writer cannot reach Redis
backend.py        all of it as a Flask-Caching backend
"""

from collections.abc import Callable, Sequence
from typing import cast

import click
from flask import Flask
from flask_caching import Cache

from config import Settings
from dues.failpoints import failpoint
from dues.postgres import before_commit, fetch_row, in_transaction
from dues.postgres.command_line import Group
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads.freshness.backend import CacheBarred, FreshCache
from dues.reads.freshness.journal import pack_words
from dues.reads.freshness.read_protocol import Computed, Result
from dues.reads.freshness.switch import READ, Row
from dues.reads.freshness.validator import Validator, ValidatorSet

__all__ = [
    "Computed",
    "Result",
    "Validator",
    "ValidatorSet",
    "cache",
    "fresh_cache",
    "init_cache",
    "read",
    "restore_cache_once",
]

cache = Cache(with_jinja2_ext=False)


def init_cache(app: Flask, settings: Settings) -> None:
    """Give `app` its cache. Nothing is connected before it is used."""
    app.config["CACHE_TYPE"] = f"{FreshCache.__module__}.{FreshCache.__name__}"
    app.config["CACHE_REDIS_URL"] = settings.cache_redis_url
    app.config["CACHE_KEY_PREFIX"] = settings.cache_key_prefix
    app.config["CACHE_DEFAULT_TIMEOUT"] = settings.cache_default_timeout
    cache.init_app(app)
    app.cli.add_command(_commands)


_commands = Group("cache", help="The cache of answers.")


@_commands.command("clear")
def clear_command() -> None:
    """Forget every cached answer: after loading a dump of the database. Takes a second."""
    try:
        cleared = fresh_cache().clear()
    except CacheBarred as error:
        raise click.ClickException(f"the cache is off: {error}") from error
    click.echo("cleared" if cleared else "somebody else was at it: try again")


def fresh_cache() -> FreshCache:
    """The running application's cache. Needs an application context."""
    return cast(FreshCache, cache.cache)


def read(key: str, tags: Sequence[str], compute: Callable[[], Computed], *, follows: bool = False) -> Result:
    """The answer that `key` names, from the cache if it is fresh, else by `compute()`: see `Reader.read`.

    Inside `transaction()` the cache is left alone: what was written there is nobody else's yet.
    """
    if in_transaction():
        return Result(compute().payload, False, None)
    return fresh_cache().reader.read(key, tags, compute, follows=follows)


@before_commit
def _touch(work: UnitOfWork) -> None:
    if work.tags or work.words:
        fresh_cache().writer.touch_before_commit(sorted(work.tags), pack_words(work.words))
        failpoint("cache.after_touch")


def restore_cache_once() -> bool:
    """For the relay, every so often: bring a cache that was turned off one step nearer to being on. True: it is on."""
    row = fetch_row(READ, {})
    return fresh_cache().restorer.restore_once(Row(*row) if row else None)
