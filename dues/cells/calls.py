"""What the directory and the cells ask one another, over HTTP on their own network."""

from collections.abc import Mapping
from typing import Any, Protocol

import ujson
import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from dues.breaker import Circuit
from dues.cells.signatures import addresses, directory_address, own_name, signed_fields
from dues.errors import Problem, Unavailable

_TIMEOUT_S = 5.0
# A cell that hangs would keep each request for a job waiting, with its thread, and each job that tells of a change.
_FAILURES, _FIRST_S, _LONGEST_S = 2, 2.0, 10.0
_http = urllib3.PoolManager(retries=False, maxsize=8)

Document = Mapping[str, Any]


class Refused(Problem):
    """The other server has refused what it was asked."""

    status, title, code = 502, "Another server of this Dues refused", "refused"


class Away(Unavailable):
    """The cell has not answered of late, and is asked nothing until its circuit (dues/breaker.py) lets calls
    through."""

    def __init__(self, cell: str, circuit: str) -> None:
        super().__init__(f"the cell {cell} does not answer at present")
        self.circuit = circuit


class Caller(Protocol):
    def __call__(self, cell: str, method: str, target: str, document: Document | None = None) -> Document: ...


def call_cell(cell: str, method: str, target: str, document: Document | None = None) -> Document:
    """Ask a cell, as its directory. Raises: Unavailable where it does not answer, Away where it has not of late;
    Refused."""
    address = addresses().get(cell)
    if address is None:
        raise Unavailable(f"there is no cell {cell} any more: CELLS does not name it")
    circuit = Circuit(f"cell:{cell}", _FAILURES, _FIRST_S, _LONGEST_S, probe_s=4 * _TIMEOUT_S)
    if circuit.wait_s():
        raise Away(cell, circuit.name)
    try:
        answer = _send(cell, address, method, target, document)
    except Unavailable:
        circuit.failed()
        raise
    circuit.succeeded()
    return _found(answer)


def call_directory(method: str, target: str, document: Document | None = None) -> Document:
    """Ask the directory, as a cell. Raises: Unavailable; Refused."""
    return _found(_send(own_name(), directory_address(), method, target, document))


def _send(cell: str, address: str, method: str, target: str, document: Document | None) -> BaseHTTPResponse:
    """Returns: the answer, whatever it is. Raises: Unavailable where there is none."""
    body = b"" if document is None else ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False).encode()
    headers = signed_fields(cell, method, target, body) | {"Content-Type": "application/json"}
    try:
        return _http.request(
            method, address + target, body=body, headers=headers, timeout=Timeout(total=_TIMEOUT_S), redirect=False
        )
    except HTTPError as error:
        raise Unavailable(f"another server of this Dues does not answer: {type(error).__name__}") from error


def _found(answer: BaseHTTPResponse) -> dict[str, Any]:
    """Raises: Unavailable; Refused."""
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
