"""What must still hold for an answer to be fresh, and the check of it against what Redis says now."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dues.reads.freshness.journal import Concern, Journal
from dues.redis.wire import Reply


class Validator(NamedTuple):
    """What an answer was kept under: it is fresh while `tags` under `prefix` still read `version`, and the journal has
    no news of its `concern`, if it has one."""

    prefix: str
    tags: tuple[str, ...]
    version: str
    concern: Concern | None = None

    def names(self) -> list[str]:
        return [f"{self.prefix}t:{tag}" for tag in self.tags]


class ValidatorSet(NamedTuple):
    """All validators of an answer as one: the names to ask Redis for (encoded as they go over the wire), the value that
    each must have, and what the journal must have no news of."""

    prefix: str
    names: tuple[bytes, ...]
    values: tuple[bytes, ...]
    concerns: tuple[Concern, ...] = ()

    @classmethod
    def over(cls, validators: Sequence[Validator]) -> "ValidatorSet | None":
        """None where there are none, or where they are from different times and cannot all hold."""
        expected: dict[bytes, bytes] = {}
        for validator in validators:
            values = validator.version.encode().split(b" ")
            for name, value in zip(map(str.encode, validator.names()), values, strict=True):
                word = b"$%d\r\n%b\r\n" % (len(name), name)
                if expected.setdefault(word, value) != value:
                    return None
        if len({validator.prefix for validator in validators}) != 1:
            return None
        concerns = tuple([validator.concern for validator in validators if validator.concern])
        return cls(validators[0].prefix, tuple(expected), tuple(expected.values()), concerns)

    def holds(self, prefix: str | None, found: Mapping[bytes, Reply], journal: Journal | None = None) -> bool:
        """Whether the answer is fresh. `found` is what Redis gave for `names`, asked after the request had arrived, and
        `journal` has its news from then; `prefix` is the one that names had at that moment (None: the cache was off).
        """
        if self.prefix != prefix or tuple(map(found.__getitem__, self.names)) != self.values:
            return False
        return all(concern.is_clear(journal) for concern in self.concerns)
