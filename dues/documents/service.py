"""Issuing documents, and looking after those that were issued.

A document is issued in two steps. `issue()` writes down its number and all that it says; that is committed before the
file is made, so however often it is made, it is the same. `keep()` stores the file, once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import ujson

from dues.errors import NotFound
from dues.ids import new_id
from dues.postgres import fetch_row, unit_of_work
from dues.reads.tags import touch

Kind = Literal["receipt", "refund", "invoice", "credit_note"]

# What the numbers of a kind begin with: they are read out on the telephone. Others come with numbers of their own.
PREFIXES: dict[Kind, str] = {"receipt": "R", "refund": "RF"}


@dataclass(frozen=True, slots=True)
class Issued:
    """A document; `content` is its file, where that is made."""

    store_id: UUID
    id: UUID
    kind: Kind
    number: str
    user_id: UUID
    payment_id: UUID | None
    data: dict[str, Any]
    content: bytes | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a document is issued for, and to whom. `payment_id`: it may be seen by all who may see that payment."""

    store_id: UUID
    kind: Kind
    id: UUID
    user_id: UUID
    payment_id: UUID | None = None


_FIND = """
    select id, number, user_id, payment_id, data::text, content, sha256 from documents
    where store_id = %(store_id)s and kind = %(kind)s and subject_id = %(id)s
"""
# Other transactions that issue one of this kind wait until the caller's ends.
_LOCK = """
    with series as (
        insert into document_series as s (store_id, kind, last_number) values (%(store_id)s, %(kind)s, 0)
        on conflict (store_id, kind) do update set last_number = s.last_number returning last_number)
    select series.last_number, stores.invoice_prefix from series, stores where stores.id = %(store_id)s
"""
_ISSUE = """
    with counted as (
        update document_series set last_number = last_number + 1 where store_id = %(store_id)s and kind = %(kind)s)
    insert into documents(store_id, id, kind, subject_id, number, user_id, payment_id, data)
    values (%(store_id)s, %(document_id)s, %(kind)s, %(id)s, %(number)s, %(user_id)s, %(payment_id)s, %(data)s)
    returning id, number, user_id, payment_id, data::text, content, sha256
"""
_ISSUE_NUMBERED = """
    insert into documents(store_id, id, kind, subject_id, number, user_id, payment_id, data)
    values (%(store_id)s, %(document_id)s, %(kind)s, %(id)s, %(number)s, %(user_id)s, %(payment_id)s, %(data)s)
    on conflict on constraint documents_subject_key do nothing returning id
"""
_KEEP = """
    update documents set content = %(content)s, sha256 = %(sha256)s, bytes = %(bytes)s,
        version = version + 1, updated_at = (select clock_timestamp())
    where store_id = %(store_id)s and id = %(id)s and content is null returning id
"""


def find(store_id: UUID, kind: Kind, subject_id: UUID) -> Issued | None:
    """The document of this kind that was issued for something."""
    row = fetch_row(_FIND, {"store_id": store_id, "kind": kind, "id": subject_id})
    return _issued(store_id, kind, row) if row else None


def get_file(store_id: UUID, kind: Kind, subject_id: UUID) -> Issued:
    """The same, with its file. Raises: NotFound where there is none yet."""
    found = find(store_id, kind, subject_id)
    if found is None or found.content is None:
        raise NotFound(f"there is no {kind.replace('_', ' ')} yet", code="not_issued")
    return found


def issue(subject: Subject, write: Callable[[str], Mapping[str, Any]]) -> Issued:
    """The document for `subject`: the one that was issued, or a new one. `write(number)` says what that says, as JSON's
    types. Part of the caller's transaction(), which is to do nothing slow after it."""
    unit_of_work()
    values = _values_of(subject)
    if known := fetch_row(_FIND, values):
        return _issued(subject.store_id, subject.kind, known)
    last_number, prefix = fetch_row(_LOCK, values) or (0, None)
    # Another may have issued it while this one waited for its turn.
    row = fetch_row(_FIND, values)
    if row is None:
        number = f"{prefix}-" if prefix else ""
        number += f"{PREFIXES[subject.kind]}-{last_number + 1:06d}"
        data = ujson.dumps(write(number), escape_forward_slashes=False)
        row = fetch_row(_ISSUE, values | {"document_id": new_id(), "number": number, "data": data})
        assert row
        touch(f"store:{subject.store_id}:documents")
    return _issued(subject.store_id, subject.kind, row)


def issue_numbered(subject: Subject, number: str, data: Mapping[str, Any]) -> Issued:
    """The document for `subject`, which has its number already: the one that was issued, or a new one that says
    `data`, of JSON's types. Part of the caller's transaction()."""
    unit_of_work()
    values = _values_of(subject)
    known = fetch_row(_FIND, values)
    if known is None:
        said = ujson.dumps(data, escape_forward_slashes=False)
        fetch_row(_ISSUE_NUMBERED, values | {"document_id": new_id(), "number": number, "data": said})
        touch(f"store:{subject.store_id}:documents")
        known = fetch_row(_FIND, values)
        assert known
    return _issued(subject.store_id, subject.kind, known)


def keep(document: Issued, content: bytes) -> bool:
    """Store the file of a document that has none; what has one keeps it. Part of the caller's transaction(). Returns:
    whether it had none."""
    unit_of_work()
    values = {"store_id": document.store_id, "id": document.id, "content": content, "bytes": len(content)}
    touch(f"store:{document.store_id}:documents")
    return fetch_row(_KEEP, values | {"sha256": sha256(content).hexdigest()}) is not None


def file_name(document: Issued) -> str:
    """What a document is called once it is saved."""
    return f"{document.kind.replace('_', '-')}-{document.number}.pdf"


def _values_of(subject: Subject) -> dict[str, Any]:
    return {
        "store_id": subject.store_id,
        "kind": subject.kind,
        "id": subject.id,
        "user_id": subject.user_id,
        "payment_id": subject.payment_id,
    }


def _issued(store_id: UUID, kind: Kind, row: Any) -> Issued:
    document_id, number, user_id, payment_id, data, content, digest = row
    file = None if content is None else bytes(content)
    return Issued(store_id, document_id, kind, number, user_id, payment_id, ujson.loads(data), file, digest)
