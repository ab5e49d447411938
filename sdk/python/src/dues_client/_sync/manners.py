# Made from ../_async by `python -m sdk.generator`: change it there.
"""What some groups can do beyond their operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dues_client._model import Id, WebhookEvent, segment
from dues_client._sync.group import Group
from dues_client.models import AnyEvent, Event
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
