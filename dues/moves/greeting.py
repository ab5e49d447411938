"""What one end says of itself and of the store before anything is done, and what at the other speaks against it."""

import hmac
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dues.moves import rows
from dues.moves.wire import Refused
from dues.moves.within import reason_against, said_of_cells
from dues.postgres import IS_SPREAD
from dues.settings import settings
from dues.vault import key_id_of, known_key_ids

_STORE = "select slug from stores where id = %(store_id)s"
_SPREAD = "the database is spread over several servers by Citus, where stores are neither taken away nor taken in"
_REVISION = "select version_num from alembic_version"
_SECRETS = """
    select secret from gateway_accounts,
        unnest(array[secret_key, webhook_secret, previous_webhook_secret]) secret
    where store_id = %(store_id)s and secret is not null
"""
_TAKEN = "select id, slug from stores where id = %(store_id)s or slug = %(slug)s"


def greeting(cursor: Any, store_id: UUID) -> dict[str, Any]:
    """Raises: Refused where the store cannot leave."""
    if _is_spread(cursor):
        raise Refused(_SPREAD)
    cursor.execute(_STORE, {"store_id": store_id})
    if (found := cursor.fetchone()) is None:
        raise Refused("there is no such store here")
    cursor.execute(_SECRETS, {"store_id": store_id})
    keys = sorted({key_id_of(secret) for (secret,) in cursor.fetchall()})
    return {
        "slug": found[0],
        "public_url": settings().public_url,
        **said_of_cells(),
        "revision": _revision(cursor),
        "columns": _columns(cursor),
        "secret_key": _secret_key_proof(),
        "secrets_keys": keys,
    }


def reasons_against(said: Mapping[str, Any], cursor: Any, store_id: UUID) -> list[str]:
    """Why a store whose end says this cannot arrive here."""
    reasons = []
    if _is_spread(cursor):
        return [_SPREAD]
    if (revision := _revision(cursor)) != said["revision"]:
        return [f"the tables are of migration {revision} here, and of {said['revision']} there: run one release"]
    here = _columns(cursor)
    if differ := sorted(name for name in {*here, *said["columns"]} if here.get(name) != said["columns"].get(name)):
        reasons.append(f"there are other columns here in {', '.join(differ)}")
    if not hmac.compare_digest(_secret_key_proof(), said["secret_key"]):
        reasons.append("SECRET_KEY is another one here: answers that are kept, and links in mails, would be void")
    if set(said["secrets_keys"]) - known_key_ids():
        reasons.append("a secret of the store's gateway is encrypted with a key that is not among SECRETS_KEYS here")
    if against := reason_against(said):
        reasons.append(against)
    cursor.execute(_TAKEN, {"store_id": store_id, "slug": said["slug"]})
    for found_id, slug in cursor.fetchall():
        reasons.append("the store is here already" if found_id == store_id else f"the slug {slug} is taken here")
    return reasons


def _columns(cursor: Any) -> dict[str, list[str]]:
    """Raises: Refused for tables that nobody knows how to move."""
    if unknown := rows.unknown_tables(cursor):
        raise Refused(f"this release does not know how to move the rows of {', '.join(unknown)}")
    return rows.all_columns(cursor)


def _is_spread(cursor: Any) -> bool:
    cursor.execute(f"select {IS_SPREAD}")
    return bool(cursor.fetchone()[0])


def _revision(cursor: Any) -> str:
    cursor.execute(_REVISION)
    (revision,) = cursor.fetchone()
    return str(revision)


def _secret_key_proof() -> str:
    """That both ends have the same SECRET_KEY, which cannot be found from it."""
    return hmac.new(settings().secret_key.encode(), b"the store moves", "sha256").hexdigest()
