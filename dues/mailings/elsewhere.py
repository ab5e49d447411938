"""Requests of outsiders that a job passes on to the Dues which has the store by now."""

from collections.abc import Mapping

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout

from dues.errors import Problem
from dues.jobs import Retry

_TIMEOUT_S = 10.0
_http = urllib3.PoolManager(retries=False)


class NotPassedOn(Problem):
    """The Dues that has the store could not be reached, or refused the request."""

    status, title, code = 502, "It could not be passed on", "not_passed_on"


def post(url: str, body: bytes, headers: Mapping[str, str], expected: int) -> None:
    """Send a request that is answered with the status `expected`. Raises: Retry if it is not."""
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
        raise Retry(problem=NotPassedOn(f"the other server does not answer: {type(error).__name__}")) from error
    answer.close()
    if answer.status != expected:
        raise Retry(problem=NotPassedOn(f"the other server answered {answer.status}"))
