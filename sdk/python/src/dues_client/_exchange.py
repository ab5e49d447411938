"""What both clients share about one exchange with the server, without doing it: the request's headers, how an answer
is read, and whether and when to try again."""

import json
import random
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dues_client._http import httpx
from dues_client._model import UNSET, Unset, body_of
from dues_client.errors import ApiError, ConnectFailed, NetworkError, TimedOut, UnreadableAnswer, api_error

try:
    __version__ = version("dues-client")
except PackageNotFoundError:
    __version__ = "0"
USER_AGENT = f"dues-client/{__version__} python/{sys.version_info[0]}.{sys.version_info[1]}"

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 8.0
# Whatever the request was: it was not taken on.
_BUSY = {429, 502, 503, 504}
# What one sync may send: so many operations, and so many bytes of them.
_MOST_OPERATIONS, _MOST_BYTES = 100, 900_000


@dataclass(frozen=True)
class Answer:
    """`data` is the JSON of the body, None where there is none. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    data: Any

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")


LAST: ContextVar["Answer | None"] = ContextVar("dues_last_answer", default=None)


@dataclass(frozen=True)
class Options:
    """timeout: seconds for a whole call, its retries included; request_timeout: for one attempt."""

    timeout: float = 60.0
    request_timeout: float = 30.0
    retries: int = 4


def request_headers(
    *,
    key: str | Unset | None = UNSET,
    if_version: int | None = None,
    wait: int | None = None,
    content_type: str | None = None,
) -> dict[str, str]:
    """A key of None is a request that takes one, and gets one of its own: the same over all its attempts."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    if key is not UNSET:
        headers["Idempotency-Key"] = str(key) if key is not None else uuid.uuid4().hex
    if if_version is not None:
        headers["If-Match"] = f'"{if_version}"'
    if wait is not None:
        headers["Prefer"] = f"wait={wait}"
    return headers


def sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers`. Raises: ValueError for one that cannot be sent, such as a token with the end of the line that it was
    read from. What it holds is not told, since it may be a secret."""
    for name, value in headers.items():
        if value != value.strip() or any(character < " " or character == "\x7f" for character in value):
            raise ValueError(f"what {name} is to be holds a line break, or blanks around it")
    return dict(headers)


def read_answer(response: httpx.Response, content: bytes) -> Answer:
    """Raises: ApiError for an answer that refuses."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        data = json.loads(content) if content else None
    except ValueError:
        # Not from Dues: a proxy's error page, say.
        data = None
        if response.status_code < 400:
            raise UnreadableAnswer(response.status_code, {}, headers) from None
    if response.status_code >= 300 and response.status_code != 304:
        raise api_error(response.status_code, data if isinstance(data, dict) else {}, headers)
    answer = Answer(response.status_code, headers, data)
    LAST.set(answer)
    return answer


def network_error(error: httpx.TransportError) -> NetworkError:
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return ConnectFailed(str(error) or "the server was not reached")
    if isinstance(error, httpx.TimeoutException):
        return TimedOut("no answer came in time")
    return NetworkError(str(error) or type(error).__name__)


def retry_delay(attempt: int, error: ApiError | NetworkError, method: str, headers: Mapping[str, str]) -> float | None:
    """Seconds until the next attempt after `attempt` of them, from 1 on; None where another must not be made.

    A request whose answer was lost is sent again only where that has no second effect: reads and PUT; what carries
    an Idempotency-Key; changes and deletions that are not bound to a version, which the first may have moved on.
    """
    if isinstance(error, ApiError):
        in_flight = error.code == "idempotency_key_in_use"
        if error.status not in _BUSY and not in_flight:
            return None
    elif not isinstance(error, ConnectFailed):
        if method == "POST" and "Idempotency-Key" not in headers:
            return None
        if "If-Match" in headers and method != "POST":
            return None
    delay = min(_FIRST_DELAY_S * 2.0 ** (attempt - 1), _LONGEST_DELAY_S) * random.uniform(0.5, 1)  # noqa: S311 - spreads clients over time
    asked = error.retry_after if isinstance(error, ApiError) else None
    return max(delay, asked or 0.0)


def portions(operations: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The operations of a sync as JSON, in lists that one request may send each."""
    found: list[list[dict[str, Any]]] = []
    room = 0
    for operation in map(body_of, operations):
        size = len(json.dumps(operation, ensure_ascii=False, separators=(",", ":")).encode())
        if not found or size > room or len(found[-1]) == _MOST_OPERATIONS:
            found.append([])
            room = _MOST_BYTES
        found[-1].append(operation)
        room -= size
    return found


def is_to_be_sent_again(result: Mapping[str, Any]) -> bool:
    """Whether an operation of a sync was refused for a reason that passes, but for those that rest on another."""
    status = int(result["status"])
    in_flight = status == 409 and result["problem"].get("code") == "idempotency_key_in_use"
    return in_flight or status == 429 or status >= 500
