"""Who is calling, and what their token lets them do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

Scope = Literal[
    "account:read",
    "account:write",
    "catalog:read",
    "catalog:write",
    "payments:read",
    "payments:write",
    "subscriptions:read",
    "subscriptions:write",
    "reports:read",
    "reports:write",
    "imports:read",
    "imports:write",
    "social:read",
    "social:write",
    "jobs:read",
    "jobs:write",
    "webhooks:read",
    "webhooks:write",
]
SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Actor:
    """The holder of a valid token. `store_id` is the one store the token is bound to, if it is."""

    user_id: UUID
    token_id: UUID
    scopes: frozenset[str]
    store_id: UUID | None
    expires_at: datetime
