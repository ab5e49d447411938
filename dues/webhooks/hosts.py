"""Bounds how many requests of this process wait for one host at once, so that a host that hangs does not hold every
thread, whichever stores have endpoints there."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID


class Hosts:
    """Counts requests that are under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_host: Counter[str] = Counter()
        self._of_store: Counter[tuple[str, UUID]] = Counter()

    @contextmanager
    def place(self, host: str, store_id: UUID, most: int) -> Iterator[bool]:
        """Whether there is a place among the `most` requests to this host; it is held while the block runs. A store
        that has no request there yet always gets one: otherwise other stores' requests could keep it from a host.
        """
        with self._lock:
            found = self._of_host[host] < most or not self._of_store[host, store_id]
            if found:
                self._of_host[host] += 1
                self._of_store[host, store_id] += 1
        try:
            yield found
        finally:
            if found:
                self._leave(host, store_id)

    def _leave(self, host: str, store_id: UUID) -> None:
        with self._lock:
            self._of_host[host] -= 1
            self._of_store[host, store_id] -= 1
            # Adding an empty Counter drops the entries that are 0, which would otherwise pile up.
            self._of_host += Counter()
            self._of_store += Counter()


hosts = Hosts()
