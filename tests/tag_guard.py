"""Fails a test whose unit of work writes to a table that cached answers show, and names no tag of theirs.

What has to be named follows from the declared reads: of each resource on the table, the first of its tags, with any
id. It cannot tell whose; for that there is tests/api/test_staleness.py.
"""

import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from dues.postgres import before_commit, in_transaction, unit_of_work
from dues.postgres.unit_of_work import UnitOfWork
from dues.reads import Resource

_LONG = 10_000
_WRITE = re.compile(r"\b(?:insert\s+into|update|delete\s+from)\s+(?:only\s+)?\"?(\w+)", re.IGNORECASE)
_ANY = "*"
# What answers need that follow the journal and have no tag of their own: that something is recorded there.
_JOURNAL = "a change that is recorded"


def resources() -> Iterator[Resource]:
    """Every resource declared in a module that has been imported."""
    for name, module in list(sys.modules.items()):
        if name.startswith("dues."):
            yield from (value for value in vars(module).values() if isinstance(value, Resource))


def needed_tags() -> dict[str, set[str]]:
    """For each table the tags that every write to it must name, `*` standing for any id."""
    return _needed_tags(len(sys.modules))


@lru_cache(1)
def _needed_tags(modules: int) -> dict[str, set[str]]:
    """The same, while so many `modules` have been imported, which is where resources are declared."""
    scopes: list[dict[str, Any]] = [{}, *({name: _ANY} for name in ("id", "store_id", "user_id"))]
    scopes.append({"id": _ANY, "store_id": _ANY, "user_id": _ANY})
    needed: dict[str, set[str]] = {}
    for resource in resources():
        for scope in scopes:
            try:
                tags = resource.tags(scope)
            except KeyError:
                continue
            if tags and "None" not in tags[0]:
                needed.setdefault(resource.table.name, set()).add(_JOURNAL if tags[0] == "social" else tags[0])
    return needed


def missing_tags(tables: set[str], tags: set[str]) -> list[str]:
    needed = needed_tags()
    return [
        f"{table}: {pattern}"
        for table in sorted(tables & needed.keys())
        for pattern in sorted(needed[table])
        if not any(re.fullmatch(re.escape(pattern).replace(r"\*", "[^:]+"), tag) for tag in tags)
    ]


def written_tables(statement: str) -> tuple[str, ...]:
    """Those of one that is sent again and again are remembered, but not a long one, with values of its own in it."""
    return _remembered(str(statement)) if len(statement) < _LONG else _tables(statement)


def _tables(statement: str) -> tuple[str, ...]:
    return tuple(table.lower() for table in _WRITE.findall(statement))


_remembered = lru_cache(4096)(_tables)


class TagGuard:
    """Watches what is sent to PostgreSQL; `append()` takes each statement, as a recorder's list does."""

    def __init__(self) -> None:
        before_commit(self._check)

    def append(self, text: str) -> None:
        for table in written_tables(text):
            work = unit_of_work() if in_transaction() else None
            if work is not None:
                vars(work).setdefault("written", set()).add(table)
            elif table in needed_tags():
                raise AssertionError(f"a write to {table} outside transaction() names no tags")

    def _check(self, work: UnitOfWork) -> None:
        work.flush()
        recorded = {_JOURNAL} if work.words else set()
        missing = missing_tags(vars(work).get("written", set()), work.tags | recorded)
        assert not missing, f"these must be named by touch() or record_change(): {', '.join(missing)}"
