"""Who is calling, and what their token lets them do."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

AREAS = ("account", "catalog", "payments", "subscriptions", "reports", "social", "jobs", "webhooks")
SCOPES = tuple(f"{area}:{right}" for area in AREAS for right in ("read", "write"))


@dataclass(frozen=True)
class Actor:
    """The holder of a valid token. `store_id` is the one store the token is bound to, if it is."""

    user_id: UUID
    token_id: UUID
    scopes: frozenset[str]
    store_id: UUID | None
    expires_at: datetime
