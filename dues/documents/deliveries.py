"""How the sending of documents goes: each is one row, which its job brings up to date with the mail's end."""

from typing import Literal
from uuid import UUID

from dues.documents.reads import documents
from dues.documents.service import Issued
from dues.events import emit
from dues.mail.service import Outcome
from dues.postgres import fetch_row, unit_of_work
from dues.reads.tags import touch

Ended = Literal["sent", "rejected", "unknown"]

_BEGIN = """
    insert into document_deliveries(store_id, document_id, job_id) values (%(store_id)s, %(id)s, %(job_id)s)
    on conflict do nothing returning job_id
"""
_END = """
    update document_deliveries set status = %(status)s, finished_at = (select clock_timestamp())
    where store_id = %(store_id)s and document_id = %(id)s and job_id = %(job_id)s and status <> %(status)s
    returning job_id
"""
_RECENT = """
    select count(*), extract(epoch from min(created_at) + %(within_s)s * interval '1 s' - now())
    from document_deliveries
    where store_id = %(store_id)s and document_id = %(id)s and created_at > now() - %(within_s)s * interval '1 s'
"""


def begin_delivery(document: Issued, job_id: UUID) -> None:
    """A job is to send this document; said twice, it is one sending. Part of the caller's transaction()."""
    unit_of_work()
    fetch_row(_BEGIN, _values(document, job_id))
    _touch(document)


def end_delivery(document: Issued, job_id: UUID, outcome: Outcome) -> None:
    """What has become of the mail. That the mail server refused it is told to the store. Part of the caller's
    transaction()."""
    unit_of_work()
    is_news = fetch_row(_END, _values(document, job_id) | {"status": outcome.state}) is not None
    _touch(document)
    if is_news and outcome.state == "rejected":
        scope = {"store_id": document.store_id, "id": document.id}
        emit(document.store_id, "document.delivery_failed", documents, scope)


def count_recent(document: Issued, within_s: float) -> tuple[int, float]:
    """How often the document was sent within the last seconds, and after how many more the first of these is over."""
    values = {"store_id": document.store_id, "id": document.id, "within_s": within_s}
    count, wait_s = fetch_row(_RECENT, values) or (0, 0)
    return int(count), float(wait_s or 0)


def _values(document: Issued, job_id: UUID) -> dict[str, object]:
    return {"store_id": document.store_id, "id": document.id, "job_id": job_id}


def _touch(document: Issued) -> None:
    touch(f"store:{document.store_id}:documents")
