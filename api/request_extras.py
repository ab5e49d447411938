"""What Flask and the front door say to each other, through the WSGI environment.

Flask does not know the front door; it finds what the door knows, and leaves what only the door can use, where DOOR
says, if there is one.
"""

from dataclasses import dataclass, field
from typing import Any

from dues.reads.freshness import Validator
from dues.stores.access import Access

DOOR = "dues.front"
# Where a server that can hold a client offers to; a server of threads does, too (api/threaded.py).
WAITS = "dues.waits"


@dataclass
class Leftover:
    """What Flask leaves to the front door beside its answer.

    access: what the caller may do; the door gives it where it knows that this still holds, else Flask leaves it.
    file: to be sent as the body, in chunks. validators: of all that the answer was made from, where it may be kept, and
    until when (`time.time()`). route: the template of its path, for the metrics. waiting: what the client waits for
    (api/long_poll.py).
    """

    access: Access | None = None
    file: Any = None
    validators: list[Validator] = field(default_factory=list)
    until: float = 0.0
    route: str = ""
    waiting: Any = None
