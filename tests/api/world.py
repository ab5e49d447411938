"""A store with its people, and rows in it for whatever ids a path names."""

import re
from typing import Any

from flask import Flask

from tests.api.samples.declared import OF_ROUTE, ROWS, Target
from tests.factory import Factory


class World:
    """A test store with a member of staff in every role, a customer, and one who has nothing to do with it. The owner
    has a second store, `elsewhere`."""

    def __init__(self, make: Factory, app: Flask) -> None:
        self.make, self.app = make, app
        self.owner, self.customer, self.other = (make.user(email_verified_at=None) for _ in range(3))
        self.support, self.manager = (make.user(email_verified_at=None) for _ in range(2))
        self.store, self.elsewhere = make.store(self.owner, test=True), make.store(self.owner)
        self.package = make.package(self.store)
        for role in ("support", "manager"):
            make.staff(self.store, getattr(self, role), role=role)

    def target(self, method: str, path: str) -> dict[str, Any]:
        """The ids that a path names: those of new rows in the store, the customer's where they belong to somebody."""
        path = path.partition("?")[0]
        target = Target(self, method, path, {"store_id": self.store})
        for name in re.findall(r"\{(\w+)\}", path):
            if name not in target.rows:
                target.rows[name] = ROWS[name](target)
        samples = OF_ROUTE.get(f"{method} {path}")
        if samples and samples.arrange:
            samples.arrange(target)
        return {name: row.id for name, row in target.rows.items()}

    def code(self, purpose: str) -> str:
        """A new code: to verify the customer's address, or to reset the password of somebody whom nobody knows."""
        return self.make.code(self.customer if purpose == "verify-email" else self.make.user(), purpose)
