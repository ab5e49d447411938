"""Tables of events, of the endpoints that are told of them, and of the deliveries."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.postgres import Model, Versioned
from dues.stores.models import Store


class EventStream(Model):
    """How far a store's events are numbered, and whether any endpoint is told of them. Written with SQL."""

    __tablename__ = "event_streams"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    last_seq: Mapped[int]
    listened: Mapped[bool]


class Event(Model):
    """One thing that happened. Written by dues/events.py alone, and never changed."""

    __tablename__ = "events"

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[UUID]
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]


class Endpoint(Versioned, Model):
    """A URL that is told of the `events` it names (`*`: of all).

    `disabled_reason` says why it is not `enabled` when that was not its manager's doing. `failing_since` is when the
    first of an unbroken row of attempts failed; `alerted_at` when the owner was told of that. `previous_secret` signs
    beside `secret` until `previous_secret_until`; `older_secrets`, the oldest first, are those before it that still
    sign, each with `secret` and `until`.
    """

    __tablename__ = "webhook_endpoints"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    url: Mapped[str]
    description: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    enabled: Mapped[bool]
    disabled_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    alerted_at: Mapped[datetime | None]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None]
    older_secrets: Mapped[list[dict[str, str]]] = mapped_column(JSONB, default=list)
    deleted_at: Mapped[datetime | None]


class Delivery(Versioned, Model):
    """An event on its way to an endpoint. Written by deliveries.py and fanout.py, with SQL.

    `attempts` has an object for each (see `Attempt` in deliveries.py). `asked_by` is the job that wanted it: the
    event's fan-out, or a replay; `job_id` the one that carries it out.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "endpoint_id"], ["webhook_endpoints.store_id", "webhook_endpoints.id"]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    endpoint_id: Mapped[UUID]
    seq: Mapped[int]
    event_id: Mapped[UUID]
    event_type: Mapped[str]
    status: Mapped[str]
    failure_code: Mapped[str | None]
    attempts: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    next_attempt_at: Mapped[datetime | None]
    asked_by: Mapped[UUID]
    job_id: Mapped[UUID]
