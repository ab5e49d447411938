"""Asking the mail provider whether it accepted a mail.

The question is `GET {MAIL_LOOKUP_URL}/{message-id}`, answered by 200 (accepted) or 404 (not); docs/mail.md says
how to put an adapter with this one address in front of a provider's own API.
"""

from urllib.parse import quote

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, make_headers, parse_url


class NoAnswer(Exception):
    """The provider could not be asked just now, or said neither yes nor no."""


_http = urllib3.PoolManager(retries=False)


def was_accepted(lookup_url: str, message_id: str, *, timeout_s: float) -> bool:
    """Whether the provider accepted the mail of `message_id` (without angle brackets). Raises: NoAnswer."""
    url = parse_url(lookup_url.rstrip("/"))
    address = f"{url._replace(auth=None).url}/{quote(message_id, safe='@')}"
    try:
        answer = _http.request(
            "GET",
            address,
            headers=make_headers(basic_auth=url.auth) if url.auth else None,
            timeout=Timeout(total=timeout_s),
            redirect=False,
            preload_content=False,
        )
    except HTTPError as error:
        raise NoAnswer(type(error).__name__) from error
    # Only the status counts; a body of any length stays unread.
    answer.close()
    if answer.status not in (200, 404):
        raise NoAnswer(f"status {answer.status}")
    return answer.status == 200
