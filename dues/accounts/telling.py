"""Where this Dues is the directory of cells: that an account has changed, which they have copies of. Without cells
nothing is done."""

from uuid import UUID

from dues.jobs import enqueue, kinds
from dues.postgres import fetch_row, run_later
from dues.reads.tags import token_tag, touch
from dues.settings import settings

_COUNT = "update users set version = version + 1, updated_at = now() where id = %(user_id)s"
_LIVE = """
    select coalesce(array_agg(encode(token_hash, 'hex')), '{}') from api_tokens
    where user_id = %(user_id)s and revoked_at is null and expires_at > now()
"""


def tell_cells(user_id: UUID, *, counts: bool = False) -> None:
    """Have the cells told how the account is from the commit on. `counts`: what has changed is no column of the user's
    own row, and counts as a change of it all the same. Part of the caller's transaction(), after the change."""
    if not settings().cells:
        return
    if counts:
        # It locks the row, so that no token is issued between the look at those that are in force and the commit.
        run_later(_COUNT, {"user_id": user_id})
    (hashes,) = fetch_row(_LIVE, {"user_id": user_id}) or ([],)
    touch(*(token_tag(bytes.fromhex(token_hash)) for token_hash in hashes))
    enqueue(kinds.CELLS_TELL, {"user_id": str(user_id)})
