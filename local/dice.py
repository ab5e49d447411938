"""The random choices of the demo data, the same at each loading."""

import random
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass
class Dice:
    """`moment` is the present time."""

    moment: datetime
    rng: random.Random

    def id(self, made: datetime) -> UUID:
        """A UUIDv7 of a moment in the past."""
        head, tail = self.rng.getrandbits(12), self.rng.getrandbits(62)
        return UUID(int=int(made.timestamp() * 1000) << 80 | 7 << 76 | head << 64 | 2 << 62 | tail)
