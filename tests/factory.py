"""Makes rows for tests straight in the tables, so that a test arranges its world without the code it tests.

Each method returns the row as an object with the table's columns. What a test does not care about has a default.
"""

import secrets
from base64 import b64encode
from datetime import UTC, datetime
from types import SimpleNamespace as Row
from typing import Any

from dues.ids import new_id
from tests.rows.payments import PaymentRows
from tests.rows.social import SocialRows

# Nothing is ever sent there.
_URL = "http://127.0.0.1:9/hooks"


class Factory(PaymentRows, SocialRows):
    """Makes rows of any kind: those of tests/rows/, and webhooks with their events."""

    def endpoint(self, store: Row, **columns: Any) -> Row:
        """A webhook endpoint that is told of all events."""
        self.rows(
            "insert into event_streams(store_id, listened) values (%(id)s, true)"
            " on conflict (store_id) do update set listened = true",
            {"id": store.id},
        )
        secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
        defaults = {"store_id": store.id, "id": new_id(), "url": _URL, "events": ["*"], "secret": secret}
        return self.insert("webhook_endpoints", defaults | columns)

    def event(self, store: Row, **columns: Any) -> Row:
        """The store's next event; no job goes with it."""
        seq = self.value(
            "insert into event_streams as s (store_id, last_seq) values (%(id)s, 1)"
            " on conflict (store_id) do update set last_seq = s.last_seq + 1 returning last_seq",
            {"id": store.id},
        )
        defaults = {"store_id": store.id, "seq": seq, "id": new_id(), "type": "package.created", "data": {"id": "1"}}
        return self.insert("events", defaults | {"created_at": datetime.now(UTC)} | columns)

    def delivery(self, endpoint: Row, event: Row, **columns: Any) -> Row:
        """A delivery that has succeeded. No job goes with it."""
        defaults = {
            "store_id": endpoint.store_id,
            "id": new_id(),
            "endpoint_id": endpoint.id,
            "seq": event.seq,
            "event_id": event.id,
            "event_type": event.type,
            "status": "succeeded",
            "asked_by": new_id(),
            "job_id": new_id(),
        }
        return self.insert("webhook_deliveries", defaults | columns)
