"""Events as they happen, and what a webhook would bring of them sent to a server on this machine."""

import base64
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from hashlib import sha256
from types import TracebackType

from dues_client import Dues, WebhookEvent
from dues_client._http import httpx
from dues_client.models import AnyEvent

_EVERY_S = 1.0


def tail(dues: Dues, store_id: str, after: int, *, follow: bool) -> Iterator[AnyEvent | WebhookEvent]:
    """The store's events after a number; with `follow`, whatever happens later, too."""
    while True:
        for event in dues.webhooks.events_after(store_id, after):
            after = event.seq
            yield event
        if not follow:
            return
        time.sleep(_EVERY_S)


def new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class Forwarder:
    """Sends events as Dues sends webhooks, signed with a secret made for this run."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._key = base64.b64decode(secret.removeprefix("whsec_"))
        self._http = httpx.Client(timeout=15.0)

    def __enter__(self) -> "Forwarder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def send(self, event: AnyEvent | WebhookEvent) -> str:
        """Returns: the status, or what was wrong, in a word or two."""
        # As a webhook has it: the id is in a header.
        document = {name: value for name, value in event.to_dict().items() if name not in ("id", "links")}
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        moment = str(int(time.time()))
        signed = f"{event.id}.{moment}.".encode() + body
        signature = base64.b64encode(hmac.digest(self._key, signed, sha256)).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1,{signature}",
        }
        try:
            return str(self._http.post(self._url, content=body, headers=headers).status_code)
        except httpx.TransportError as error:
            return type(error).__name__
