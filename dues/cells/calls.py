"""What the directory and the cells ask one another, over HTTP on their own network."""

from collections.abc import Mapping
from typing import Any, Protocol

import ujson
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from dues.cells.signatures import addresses, directory_address, own_name, signed_fields
from dues.errors import Problem, Unavailable

_TIMEOUT_S = 5.0
_http = urllib3.PoolManager(retries=False, maxsize=8)

Document = Mapping[str, Any]


class Refused(Problem):
    """The other server has refused what it was asked."""

    status, title, code = 502, "Another server of this Dues refused", "refused"


class Caller(Protocol):
    def __call__(self, cell: str, method: str, target: str, document: Document | None = None) -> Document: ...


def call_cell(cell: str, method: str, target: str, document: Document | None = None) -> Document:
    """Ask a cell, as its directory. Raises: Unavailable where it does not answer; Refused."""
    address = addresses().get(cell)
    if address is None:
        raise Unavailable(f"there is no cell {cell} any more: CELLS does not name it")
    return _call(cell, address, method, target, document)


def call_directory(method: str, target: str, document: Document | None = None) -> Document:
    """Ask the directory, as a cell. Raises: Unavailable; Refused."""
    return _call(own_name(), directory_address(), method, target, document)


def _call(cell: str, address: str, method: str, target: str, document: Document | None) -> Document:
    body = b"" if document is None else ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False).encode()
    headers = signed_fields(cell, method, target, body) | {"Content-Type": "application/json"}
    try:
        answer = _http.request(
            method, address + target, body=body, headers=headers, timeout=Timeout(total=_TIMEOUT_S), redirect=False
        )
    except HTTPError as error:
        raise Unavailable(f"another server of this Dues does not answer: {type(error).__name__}") from error
    found = _read(answer.data)
    if answer.status >= 500:
        raise Unavailable(f"another server of this Dues answered {answer.status}")
    if answer.status >= 300:
        raise Refused(str(found.get("detail") or f"it answered {answer.status}"))
    return found


def _read(data: bytes) -> dict[str, Any]:
    try:
        found = ujson.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
