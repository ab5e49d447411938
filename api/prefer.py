"""`Prefer: wait=10` (RFC 7240): how long a client is ready to wait for an answer."""

import re
from functools import lru_cache

# Proxies and hosts give up on an answer after 30 seconds.
LONGEST_WAIT_S = 25

# A header longer than this is no list of preferences.
_LONGEST = 1000
_STRING = r'"(?:[^"\\]|\\.)*"'
_PREFERENCE = re.compile(rf'(?:[^,"]|{_STRING})+')
_PARAMETER = re.compile(rf'(?:[^;"]|{_STRING})+')
_SECONDS = re.compile(r"[0-9]{1,9}")


def preferred_wait(header: str | None) -> int:
    """The whole seconds of the `wait` preference, at most 25; 0 where there is none or its value is no number.

    Of a preference that is given twice the first counts.
    """
    return _read_wait(header) if header and len(header) <= _LONGEST else 0


# Clients say the same each time.
@lru_cache(maxsize=256)
def _read_wait(header: str) -> int:
    for preference in _PREFERENCE.findall(header):
        # What follows a semicolon are parameters, of which `wait` has none.
        words = _PARAMETER.findall(preference)
        name, _, value = words[0].partition("=") if words else ("", "", "")
        if name.strip().lower() == "wait":
            return _seconds(value.strip())
    return 0


def _seconds(value: str) -> int:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return min(int(value), LONGEST_WAIT_S) if _SECONDS.fullmatch(value) else 0
