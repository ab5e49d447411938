"""A real Valkey behind calls that are steps of the scheduler and fail in every way that we know."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dues.reads.freshness.lua import SCRIPTS
from dues.redis.wire import Address, CacheAway, Command, Commands, Connection, Pool, Reply, ReplyError, T
from tests.reads.freshness.scheduler import Scheduler


@dataclass
class Faults:
    """How likely each is, for a call."""

    lost: float = 0.01
    slow: float = 0.0
    cut: bool = False


class Redis:
    """One Valkey, which can be flushed, restarted (by a new run_id) and filled with what it held before."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(Address.parse(url), [script.text for script in SCRIPTS], 5)
        self.life = 0
        self.late: list[tuple[int, Sequence[Command]]] = []
        self._copy: dict[bytes, bytes] = {}
        self.flush()

    @property
    def run_id(self) -> str:
        return f"life{self.life}"

    def call(self, *commands: Command) -> list[Reply]:
        return self._connection.call(commands, 5)

    def names(self) -> list[bytes]:
        (names,) = self.call(("KEYS", "*"))
        assert isinstance(names, list)
        return sorted(name for name in names if isinstance(name, bytes))

    def flush(self) -> None:
        self.call(("FLUSHDB",))

    def copy(self) -> None:
        names = self.names()
        values = self.call(*[("DUMP", name) for name in names]) if names else []
        self._copy = {n: v for n, v in zip(names, values, strict=True) if isinstance(v, bytes)}

    def restart(self, with_copy: bool) -> None:
        self.life += 1
        self.late.clear()
        self.flush()
        if with_copy and self._copy:
            self.call(*[("RESTORE", name, 0, value) for name, value in self._copy.items()])

    def apply_late(self, index: int) -> None:
        life, commands = self.late.pop(index)
        if life == self.life:
            self.call(*commands)

    def lose(self, commands: Sequence[Command], choose: random.Random) -> None:
        """A call that fails was carried out, will be, or never is: nobody can tell."""
        fate = choose.random()
        if fate < 0.3:
            self.call(*commands)
        elif fate < 0.6:
            self.late.append((self.life, commands))

    def close(self) -> None:
        self._connection.close()


class SteppedPool(Pool):
    """A process's threads' way to Redis."""

    def __init__(self, redis: Redis, scheduler: Scheduler, faults: Faults) -> None:
        self._redis, self._scheduler, self.faults = redis, scheduler, faults
        self.run_id = redis.run_id

    def ask_for(self, commands: Commands, timeout_s: float, understand: Callable[[list[Reply]], T]) -> T:
        self._scheduler.step()
        # A connection to a server that is gone is replaced once; the new one greets the new server.
        self.run_id = self._redis.run_id
        written = commands(self)  # type: ignore[arg-type]
        if self.faults.cut or self._scheduler.random.random() < self.faults.lost:
            self._redis.lose(written, self._scheduler.random)
            raise CacheAway("no answer")
        replies = self._redis.call(*written)
        # Between the server's answer and its arrival.
        if self._scheduler.random.random() < 0.2:
            self._scheduler.step()
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise AssertionError(reply)
        return understand(replies)

    def tell(self, commands: Sequence[Command], timeout_s: float) -> None:
        self._scheduler.step()
        chance = self._scheduler.random.random()
        if self.faults.cut or chance < self.faults.lost:
            return
        if chance < 0.7:
            self._redis.call(*commands)
        else:
            self._redis.late.append((self._redis.life, commands))
