"""Runs actors one step at a time, in an order drawn from a seed: the same seed, the same interleaving."""

import random
import threading
from collections.abc import Callable


class Ended(BaseException):
    """The run is over: an actor that is in the middle of something stops there."""


class Scheduler:
    """Actors are threads of which only one runs at a time. Each gives way by `step()`, which also moves the clock."""

    TICK_S = 0.003

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self._turns: list[threading.Lock] = []
        self._lots: list[threading.Lock] = []
        self._threads: list[threading.Thread] = []
        self._own_turn = threading.Lock()
        self._own_turn.acquire()
        self._local = threading.local()
        self._over = False
        self.failures: list[BaseException] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        self.step()
        while self.now < until:
            self.step()

    def step(self) -> None:
        """Let somebody else go on."""
        if self._over:
            raise Ended
        self._own_turn.release()
        self._local.turn.acquire()
        if self._over:
            raise Ended

    def add(self, actor: Callable[[], None], weight: int = 1) -> None:
        """An actor that is started anew whenever it ends, and takes `weight` times as many steps as others."""
        turn = threading.Lock()
        turn.acquire()
        self._turns.append(turn)
        self._lots += [turn] * weight
        self._threads.append(threading.Thread(target=self._live, args=(actor, turn), daemon=True))

    def _live(self, actor: Callable[[], None], turn: threading.Lock) -> None:
        self._local.turn = turn
        turn.acquire()
        try:
            while not self._over:
                actor()
                self.step()
        except Ended:
            pass
        except BaseException as failure:
            self.failures.append(failure)
        self._own_turn.release()

    def run(self, steps: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Go on for `steps`, or until there is `enough`. Raises: what an actor raised first."""
        for thread in self._threads:
            thread.start()
        for _ in range(steps):
            self.now += self.TICK_S
            self._give(self.random.choice(self._lots))
            if self.failures or enough():
                break
        self._over = True
        for turn, thread in zip(self._turns, self._threads, strict=True):
            if thread.is_alive():
                self._give(turn)
                thread.join()
        if self.failures:
            raise self.failures[0]

    def _give(self, turn: threading.Lock) -> None:
        turn.release()
        self._own_turn.acquire()
