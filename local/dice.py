"""The random choices of the demo data, which are the same each time it is loaded."""

import random
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass
class Dice:
    """A random generator; `moment` is the time of loading."""

    moment: datetime
    rng: random.Random

    def id(self, made: datetime) -> UUID:
        """A UUIDv7 for the moment `made`."""
        head, tail = self.rng.getrandbits(12), self.rng.getrandbits(62)
        return UUID(int=int(made.timestamp() * 1000) << 80 | 7 << 76 | head << 64 | 2 << 62 | tail)
