"""Somebody who asks the web server of a house, and asks again where there was no answer."""

import json
from contextlib import suppress
from types import SimpleNamespace as Row
from typing import Any

import urllib3

from tests.faults.house import House
from tests.servers import wait_until

_PATIENCE_S = 90.0


class Client:
    """A user with a token."""

    def __init__(self, house: House, user: Row) -> None:
        self._auth, self._url = house.make.auth(user), house.web.url
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(total=15))

    def done(self, method: str, path: str, body: Any = None, key: str = "") -> dict[str, Any]:
        """The document that is answered in the end. `key` is an Idempotency-Key. Raises: AssertionError for an answer
        that should not be."""
        headers = {"Content-Type": "application/json", **self._auth, **({"Idempotency-Key": key} if key else {})}
        sent = json.dumps(body) if body else None
        found: list[dict[str, Any]] = []

        def ask() -> bool:
            with suppress(urllib3.exceptions.HTTPError):
                answer = self._http.request(method, self._url + path, body=sent, headers=headers)
                assert answer.status < 300 or answer.status in (409, 503), answer.data
                if answer.status < 300:
                    found.append(answer.json())
            return bool(found)

        wait_until(ask, _PATIENCE_S, f"{method} {path}")
        return found[0]
