"""In the directory: telling every cell how an account is now. A job does it, so it is neither lost nor told only once;
cells take no harm from hearing it twice, nor in another order."""

from uuid import UUID

import ujson

from dues.cells.calls import Away, Caller
from dues.cells.question import PERSON
from dues.cells.signatures import addresses
from dues.errors import Problem
from dues.jobs import Retry
from dues.postgres import fetch_row

_NEWS = f"""
    select json_build_object('person', {PERSON}, 'revoked', (
        select coalesce(json_agg(json_build_object('id', t.id, 'token_hash', encode(t.token_hash, 'hex'),
            'scopes', t.scopes, 'store_id', t.store_id, 'expires_at', t.expires_at)), '[]')
        from api_tokens t where t.user_id = u.id and t.revoked_at is not null and t.expires_at > now()))::text
    from users u where u.id = %(user_id)s
"""


def tell(user_id: UUID, call: Caller) -> None:
    """Raises: Retry where a cell has not heard it."""
    row = fetch_row(_NEWS, {"user_id": user_id})
    if row is None:
        return
    deaf: list[Problem] = []
    for name in addresses():
        try:
            call(name, "POST", "/cells/people", ujson.loads(row[0]))
        except Problem as problem:
            deaf.append(problem)
    if deaf:
        # However long a cell is away, it is told in the end; one that refuses is asked so often, and no more.
        raise Retry(problem=deaf[0], waits_for=deaf[0].circuit if isinstance(deaf[0], Away) else None)
