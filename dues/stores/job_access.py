"""What those who wait for jobs may be told of them now, for many at once.

The rule is that of a status URL: a job is seen by its owner and by its store's managers and owner, with a token that
is good and, if it is bound to a store, to that one.
"""

from collections.abc import Sequence
from functools import lru_cache
from uuid import UUID

from sqlalchemy import TextClause, text

from dues.jobs.service import StatusDocument, document_sql
from dues.jobs.status import DONE
from dues.postgres import db
from dues.reads import Query

# A token's id and a job's.
Viewing = tuple[UUID, UUID]


def look(viewings: Sequence[Viewing], query: Query) -> list[StatusDocument | None]:
    """What each of the tokens opens of the job beside it; None where the job is not there, or not to be seen. One
    statement; `query` chooses the documents' fields."""
    values = {"tokens": [str(token_id) for token_id, _ in viewings], "jobs": [str(job_id) for _, job_id in viewings]}
    found: list[StatusDocument | None] = [None] * len(viewings)
    with db.engine.connect() as connection:
        for place, document, version, status in connection.execute(_statement(query), values):
            found[place - 1] = StatusDocument(document, version, status in DONE)
    return found


@lru_cache(maxsize=256)
def _statement(query: Query) -> TextClause:
    return text(f"""
        select w.place, d.document, j.version, j.status
        from unnest(cast(:tokens as uuid[]), cast(:jobs as uuid[])) with ordinality w(token_id, job_id, place)
        join jobs j on j.id = w.job_id
        join api_tokens t on t.id = w.token_id and t.revoked_at is null and t.expires_at > now()
            and (t.store_id is null or j.store_id = t.store_id)
        join users u on u.id = t.user_id and u.deleted_at is null
        cross join lateral ({document_sql(query, "j.id")}) d(document)
        where j.owner_id = t.user_id or exists (
            select from store_staff s
            where s.store_id = j.store_id and s.user_id = t.user_id and s.role in ('manager', 'owner'))
    """)
