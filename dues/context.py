"""What is true of the present piece of work, whichever function asks: a context variable with a value for a block."""

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Scoped(Generic[T]):
    """`with Scoped(variable, value) as value:`. A class, since each request enters three, and a generator's frame
    costs several times as much."""

    __slots__ = ("_token", "_value", "_variable")

    def __init__(self, variable: "ContextVar[Any]", value: T) -> None:
        self._variable, self._value = variable, value

    def __enter__(self) -> T:
        self._token: Token[Any] = self._variable.set(self._value)
        return self._value

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._variable.reset(self._token)
