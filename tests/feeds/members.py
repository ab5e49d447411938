"""Memberships that begin, change their tier and end in a test as subscriptions do, but for the money."""

from datetime import UTC, datetime
from uuid import UUID

from flask import Flask
from msgspec.structs import replace

from dues.ids import new_id
from dues.postgres import transaction
from dues.subscriptions.state import Change, load, record
from dues.subscriptions.subscription import Subscription
from tests.factory import Factory


class Members:
    """Who is a member of which store: one subscription of each at most."""

    def __init__(self, app: Flask, make: Factory) -> None:
        self._app, self._make = app, make
        self._live: dict[tuple[str, str], UUID] = {}

    def set(self, store: str, user: str, package: str | None) -> None:
        """Begin a membership, change it to another package, or end it where `package` is None."""
        now = datetime.now(UTC)
        with self._app.app_context(), transaction():
            live = self._live.get((store, user))
            before = load(UUID(store), live) if live else None
            if package is None:
                assert before
                del self._live[store, user]
                after = replace(before, has_access=False, status="canceled", ended_at=now)
            elif before:
                after = replace(before, package_id=UUID(package))
            else:
                after = self._new(UUID(store), UUID(user), UUID(package), now)
                self._live[store, user] = after.id
            record([Change(before=before, after=after, kind="changed", at=now)])

    def _new(self, store: UUID, user: UUID, package: UUID, now: datetime) -> Subscription:
        values = {"store": store, "user": user}
        self._make.rows(
            "insert into customers(store_id, user_id, created_at, updated_at)"
            " values (%(store)s, %(user)s, now(), now()) on conflict do nothing",
            values,
        )
        return Subscription(
            store_id=store,
            id=new_id(),
            user_id=user,
            status="active",
            package_id=package,
            amount=100,
            currency="EUR",
            interval="month",
            interval_count=1,
            anchor_at=now,
            timezone="UTC",
            created_at=now,
            updated_at=now,
            has_access=True,
        )
