"""What must still hold for an answer to be fresh, and the check of it against what Redis says now."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dues.redis.wire import Reply


class Validator(NamedTuple):
    """What an answer was kept under: it is fresh while `tags` under `prefix` still read `version`."""

    prefix: str
    tags: tuple[str, ...]
    version: str

    def names(self) -> list[str]:
        return [f"{self.prefix}t:{tag}" for tag in self.tags]


class ValidatorSet(NamedTuple):
    """All validators of an answer as one: the names to ask Redis for (encoded as they go over the wire), and the value
    that each must have."""

    prefix: str
    names: tuple[bytes, ...]
    values: tuple[bytes, ...]

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
        return cls(validators[0].prefix, tuple(expected), tuple(expected.values()))

    def holds(self, prefix: str | None, found: Mapping[bytes, Reply]) -> bool:
        """Whether the answer is fresh. `found` is what Redis gave for `names`, asked after the request had arrived;
        `prefix` is the one that names had at that moment (None: the cache was off)."""
        return self.prefix == prefix and tuple(map(found.__getitem__, self.names)) == self.values
