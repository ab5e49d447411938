# Made from ../_async by `python -m sdk.generator`: change it there.
"""What some groups can do beyond their operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dues_client._exchange import is_to_be_sent_again, portions
from dues_client._model import Id, WebhookEvent, segment
from dues_client._sync.group import Group
from dues_client.models import AnyEvent, Event, SyncAnswer, SyncChanges, SyncOperation, SyncType
from dues_client.webhooks import read_event, verify


class WebhookManners(Group):
    """Webhooks that arrive, and events that were missed."""

    @staticmethod
    def verify(body: bytes | str, headers: Mapping[str, str], secret: str | Sequence[str]) -> AnyEvent | WebhookEvent:
        """The event that a webhook brings; see dues_client.webhooks. Raises: InvalidSignature."""
        return verify(body, headers, secret)

    def events_after(self, store_id: Id, seq: int) -> Iterator[AnyEvent | WebhookEvent]:
        """What has happened in a store after the event number `seq`, in its order and without a gap."""
        path = f"/v1/stores/{segment(store_id)}/events"
        for event in self._list(Event, path, query={"seq[gt]": seq, "sort": "seq"}):
            yield read_event(event.to_dict())


class SyncManners(Group):
    """What was done offline, and what has changed meanwhile."""

    def pages(
        self, cursor: str | None = None, *, ops: Sequence[SyncOperation] = (), types: Sequence[SyncType] | None = None
    ) -> Iterator[SyncAnswer]:
        """Send operations, and walk through all that has changed since the cursor.

        The first pages have their results, in their order: a request takes a hundred. An operation without a result was
        not sent, because an earlier one has to be sent again first.

        Store each page's `cursor` together with its changes. Whatever fails may be sent again, since an operation is
        done once. Raises: ApiError; with the code `cursor_expired`, begin anew without a cursor.
        """
        body: dict[str, Any] = {"types": list(types)} if types else {}
        waiting = portions(ops)
        while True:
            body |= {"cursor": cursor, "ops": waiting.pop(0) if waiting else []}
            # The key is for the attempts of this call: what is done once are the operations.
            answer = SyncAnswer((self._call("POST", "/v1/sync", body=body, idempotency_key=None)).data)
            yield answer
            if any(is_to_be_sent_again(result.data_) for result in answer.results):
                waiting = []
            if not waiting and not answer.has_more:
                return
            cursor = answer.cursor

    def wait(self, cursor: str, *, wait: int = 20, request_timeout: float | None = None) -> SyncChanges:
        """What has changed since the cursor, as soon as something has; after `wait` seconds nothing."""
        answer = self._call(
            "GET", "/v1/sync", query={"cursor": cursor}, wait=wait, request_timeout=request_timeout or wait + 10.0
        )
        return SyncChanges(answer.data)
