"""Which of those who wait for jobs may still see them, asked for many at once.

The rule is that of a status URL: a job is seen by its owner and by its store's managers and owner, with a token that
is good and not bound to another store.
"""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import text

from dues.db import db

_MAY_SEE = text("""
    select w.token_id, w.job_id
    from unnest(cast(:tokens as uuid[]), cast(:jobs as uuid[])) w(token_id, job_id)
    join jobs j on j.id = w.job_id
    join api_tokens t on t.id = w.token_id and t.revoked_at is null and t.expires_at > now()
        and (t.store_id is null or j.store_id is null or j.store_id = t.store_id)
    join users u on u.id = t.user_id and u.deleted_at is null
    where j.owner_id = t.user_id or exists (
        select from store_staff s
        where s.store_id = j.store_id and s.user_id = t.user_id and s.role in ('manager', 'owner'))
""")

# A token's id and a job's.
Viewing = tuple[UUID, UUID]


def who_may_see(viewings: Collection[Viewing]) -> set[Viewing]:
    """Those of the tokens that still open the job beside them, in one statement."""
    values = {"tokens": [str(token_id) for token_id, _ in viewings], "jobs": [str(job_id) for _, job_id in viewings]}
    with db.engine.connect() as connection:
        return {(token_id, job_id) for token_id, job_id in connection.execute(_MAY_SEE, values).all()}
