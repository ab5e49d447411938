"""Makes the rows that nearly every test needs: users and their tokens, stores, staff and packages."""

import itertools
import secrets
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from types import SimpleNamespace as Row
from typing import Any

from argon2 import PasswordHasher

from dues.accounts.actor import SCOPES
from dues.ids import new_id
from tests.rows.tables import Tables
from tests.servers import Direct

PASSWORD = "correct horse battery staple"


class PeopleRows(Tables):
    """People, stores and packages."""

    def __init__(self, direct: Direct) -> None:
        super().__init__(direct)
        self._numbers = itertools.count(1)

    def user(self, *, password: str = PASSWORD, **columns: Any) -> Row:
        number = next(self._numbers)
        defaults = {
            "id": new_id(),
            "email": f"user{number}@example.com",
            "name": f"User {number}",
            "password_hash": hashed(password),
            "email_verified_at": datetime.now(UTC),
        }
        return self.insert("users", defaults | columns)

    def address(self, user: Row, **columns: Any) -> Row:
        defaults = {
            "user_id": user.id,
            "id": new_id(),
            "label": "Home",
            "line1": "1 High Street",
            "city": "Leeds",
            "country": "GB",
        }
        return self.insert("addresses", defaults | columns)

    def token(
        self,
        user: Row,
        *scopes: str,
        store: Row | None = None,
        expires_in: timedelta = timedelta(days=1),
        **columns: Any,
    ) -> str:
        """A token of `user` (with no scopes named: all of them), as the client sends it."""
        token = f"dues_{secrets.token_urlsafe(32)}"
        defaults = {
            "id": new_id(),
            "user_id": user.id,
            "store_id": store.id if store else None,
            "name": "test",
            "token_hash": sha256(token.encode()).digest(),
            "scopes": list(scopes or SCOPES),
            "expires_at": datetime.now(UTC) + expires_in,
        }
        self.insert("api_tokens", defaults | columns)
        return token

    def auth(self, user: Row, *scopes: str, **columns: Any) -> dict[str, str]:
        """Headers with a new token of `user`."""
        return {"Authorization": f"Bearer {self.token(user, *scopes, **columns)}"}

    def code(self, user: Row, purpose: str, *, expires_in: timedelta = timedelta(hours=1), **columns: Any) -> str:
        """A code as a mail to the user's address would have it."""
        code = secrets.token_urlsafe(32)
        defaults = {
            "id": new_id(),
            "user_id": user.id,
            "purpose": purpose,
            "email": user.email,
            "code_hash": sha256(code.encode()).digest(),
            "expires_at": datetime.now(UTC) + expires_in,
        }
        self.insert("account_codes", defaults | columns)
        return code

    def store(self, owner: Row | None = None, **columns: Any) -> Row:
        """A store with its owner on the staff. The clock of a test store shows the present time."""
        owner = owner or self.user()
        number = next(self._numbers)
        defaults = {
            "id": new_id(),
            "owner_id": owner.id,
            "name": f"Store {number}",
            "slug": f"store-{number}",
            "currency": "EUR",
        }
        store = self.insert("stores", defaults | columns)
        if store.test:
            self.insert("store_clocks", {"store_id": store.id, "moment": datetime.now(UTC)})
        self.staff(store, owner, role="owner")
        return store

    def staff(self, store: Row, user: Row | None = None, *, role: str = "support", **columns: Any) -> Row:
        """A member of the staff: a new user unless one is given."""
        user = user or self.user()
        return self.insert(
            "store_staff", {"store_id": store.id, "user_id": user.id, "id": new_id(), "role": role} | columns
        )

    def package(self, store: Row, **columns: Any) -> Row:
        defaults = {
            "store_id": store.id,
            "id": new_id(),
            "name": f"Package {next(self._numbers)}",
            "amount": 1500,
            "currency": store.currency,
            "interval": "month",
        }
        return self.insert("packages", defaults | columns)


@cache
def hashed(password: str) -> str:
    """As accounts store it; cheap to verify, because tests are not what it protects."""
    return PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)
