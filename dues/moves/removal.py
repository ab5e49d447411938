"""What is deleted where a store has left: all of it, in one transaction, so that nothing shows half of it."""

from pathlib import PurePosixPath
from uuid import UUID

from dues.moves import rows, states
from dues.moves.tables import MOVED, PEOPLE
from dues.postgres import transaction, unit_of_work
from dues.reads.tags import record_change, token_tag, touch
from dues.reports.files import file_store

# Whoever issues a token that is bound to the store either has done so, or finds that it is not there.
_LOCK = "select from stores where id = %(store_id)s for update"
_TOKENS = "delete from api_tokens where store_id = %(store_id)s returning user_id, token_hash"
_FOLDERS = """
    select key from (
        select file_key as key from reports where store_id = %(store_id)s
        union all select unnest(array[upload_key, file_key]) from imports where store_id = %(store_id)s) keys
    where key is not null
"""


def remove_store(store_id: UUID, move_id: UUID, address: str, *, keeps_tokens: bool = False) -> None:
    """Needs the fence to stand. What a store's own tokens opened is elsewhere now, so they are deleted too, unless they
    go on to open it there. Raises: Overtaken."""
    named = {"store_id": store_id}
    with transaction():
        states.leave(store_id, move_id, address)
        cursor = unit_of_work().connection().connection.cursor()
        cursor.execute(rows.UNBOUNDED)
        cursor.execute(_LOCK, named)
        people = rows.ids_of(cursor, PEOPLE, store_id)
        cursor.execute(_FOLDERS, named)
        folders = {PurePosixPath(key).parent.as_posix() for (key,) in cursor.fetchall()}
        if not keeps_tokens:
            cursor.execute(_TOKENS, named)
            for user_id, token_hash in cursor.fetchall():
                touch(f"user:{user_id}:tokens", token_tag(bytes(token_hash)))
        # Mails and the sandbox's books are found by rows that are deleted after them.
        for table in reversed(MOVED):
            cursor.execute(f"delete from {table.name} where {table.rows}", named)
        states.note_gone(store_id, move_id, address)
        touch_store(store_id, people)
    for folder in folders:
        file_store().delete(folder)


def touch_store(store_id: UUID, people: list[UUID]) -> None:
    """All of a store came or went: part of the transaction() in which it did."""
    parts = ("", ":packages", ":payments", ":customers", ":clock", ":documents", ":subscriptions", ":invoices")
    touch("stores", "packages", *(f"store:{store_id}{part}" for part in (*parts, ":reports", ":webhooks", ":imports")))
    touch(*(f"user:{user_id}{part}" for user_id in people for part in ("", ":sees", ":counts", ":tokens")))
    record_change(store_id, *people, public=True)
