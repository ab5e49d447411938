"""What the generated models are built on: values read from JSON as they are asked for, and money.

A model keeps the JSON that it was made from. Fields that a newer server adds are there by their name, values of a
choice that this client has not heard of are passed on, and a field that was not asked for is an AttributeError.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from urllib.parse import quote
from uuid import UUID

Id = str | UUID
Decoder = Callable[[Any], Any]


class Unset(Enum):
    """Stands for an argument that was not given, where None has a meaning of its own."""

    UNSET = "unset"


UNSET = Unset.UNSET

_MODELS: dict[str, type["Model"]] = {}


class Model:
    """A document that the API answered, with its fields as attributes. `data_` is the JSON itself."""

    _decoders: ClassVar[Mapping[str, Decoder]] = {}

    def __init_subclass__(cls) -> None:
        _MODELS[cls.__name__] = cls

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data_ = data

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__") or name == "data_":
                raise AttributeError(name)
            field = name.removesuffix("_")
            if field not in self.data_:
                raise AttributeError(f"{type(self).__name__} has no {name!r}: it was not in the answer")
            value = self.data_[field]
            decoder = self._decoders.get(field)
            value = decoder(value) if decoder and value is not None else value
            self.__dict__[name] = value
            return value

    def to_dict(self) -> dict[str, Any]:
        """The JSON that it was made from."""
        return dict(self.data_)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and type(other) is type(self) and other.data_ == self.data_

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [f"{name}={self.data_[name]!r}" for name in ("id", "type", "name", "status") if name in self.data_]
        return f"{type(self).__name__}({', '.join(shown)})"


def time(text: str) -> datetime:
    """An aware datetime of RFC 3339, of which Python 3.10 does not read every form."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def one(name: str) -> Decoder:
    def decode(value: Any) -> Model:
        return _MODELS[name](value)

    return decode


def many(name: str) -> Decoder:
    return lambda value: [_MODELS[name](item) for item in value]


# Of ISO 4217, the currencies whose minor unit is not a hundredth.
_DIGITS = dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0)
_DIGITS |= dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3) | {"CLF": 4, "UYW": 4}


class Money(NamedTuple):
    """An amount in the minor units of its currency: `Money(1900, "EUR")` is 19.00 EUR."""

    amount: int
    currency: str

    @property
    def exponent(self) -> int:
        """Digits after the point."""
        return _DIGITS.get(self.currency, 2)

    @property
    def decimal(self) -> Decimal:
        return Decimal(self.amount).scaleb(-self.exponent)

    def __str__(self) -> str:
        return f"{self.decimal:,.{self.exponent}f} {self.currency}"


class Priced(Model):
    """A document with an amount and its currency."""

    @property
    def money(self) -> Money:
        return Money(self.data_["amount"], self.data_["currency"])


class WebhookEvent(Model):
    """What a webhook was sent for. One of a type that this client does not know yet is of this class."""

    id: str
    type: str
    timestamp: datetime
    store_id: str
    seq: int

    _decoders = {"timestamp": time}


def segment(value: Id) -> str:
    """An id as a part of a path. Raises: ValueError for one that would name something else: the list, or what is above
    it."""
    if str(value) in ("", ".", ".."):
        raise ValueError(f"an id is {str(value) or 'empty'}")
    return quote(str(value), safe="")


def body_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON to send: without what was not given."""
    return {name: _plain(value) for name, value in values.items() if value is not UNSET}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return _timestamp(value)
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(below) for below in value]
    return str(value) if isinstance(value, UUID) else value


def query_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The parameters to send: without what was not given."""
    return {name: _parameter(value) for name, value in values.items() if value is not None}


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _timestamp(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(item) for item in value)
    return str(value)


def _timestamp(moment: datetime) -> str:
    """Raises: ValueError for a time that does not say of which zone it is."""
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone: datetime.now(timezone.utc)")
    return moment.isoformat()
