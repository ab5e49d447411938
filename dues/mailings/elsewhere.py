"""Requests of outsiders that a job passes on to the Dues which has the store by now."""

from collections.abc import Mapping

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, parse_url

from dues.breaker import Circuit
from dues.errors import Problem
from dues.jobs import Retry

_TIMEOUT_S = 10.0
_LONGEST_REST_S = 60.0
_http = urllib3.PoolManager(retries=False)


class NotPassedOn(Problem):
    """The Dues that has the store could not be reached, or refused the request."""

    status, title, code = 502, "It could not be passed on", "not_passed_on"


def post(url: str, body: bytes, headers: Mapping[str, str], expected: int) -> None:
    """Send a request that is answered with the status `expected`. Raises: Retry if it is not, or if the server has not
    answered of late: a provider may report a thousand bounces while it is away, and each would wait for it."""
    circuit = Circuit(f"dues:{parse_url(url).netloc}", first_s=2.0, longest_s=_LONGEST_REST_S, probe_s=4 * _TIMEOUT_S)
    if circuit.wait_s():
        raise Retry(problem=NotPassedOn("the other server does not answer at present"), waits_for=circuit.name)
    try:
        answer = _http.request(
            "POST",
            url,
            body=body,
            headers=dict(headers),
            timeout=Timeout(total=_TIMEOUT_S),
            redirect=False,
            preload_content=False,
        )
    except HTTPError as error:
        circuit.failed()
        raise Retry(problem=NotPassedOn(f"the other server does not answer: {type(error).__name__}")) from error
    circuit.succeeded()
    answer.close()
    if answer.status != expected:
        raise Retry(problem=NotPassedOn(f"the other server answered {answer.status}"))
