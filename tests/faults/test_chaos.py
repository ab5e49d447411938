"""Random kills of everything under load, for a time: `bin/test --chaos 10m`."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.havoc import Havoc
from tests.faults.house import Crew, House
from tests.faults.play import Play

_CLIENTS = 4
_PAUSE_S = 0.1
# Jobs that were struck again and again wait the longest before they are tried again.
_PATIENCE_S = 600.0


@pytest.mark.chaos
@pytest.mark.timeout(0)
def test_what_was_accepted_is_confirmed_once(
    house: House, chaos_s: float, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    crew = Crew(house, tmp_path, "asked", {})
    try:
        crew.wait_until_ready()
        play = Play(house, crew, "asked", tmp_path)
        havoc = Havoc(house, crew, random.Random(seed))
        over = threading.Event()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            paying = [clients.submit(keep_paying, play, over) for _ in range(_CLIENTS)]
            try:
                until = time.monotonic() + chaos_s
                while time.monotonic() < until:
                    havoc.strike()
            finally:
                over.set()
                havoc.end()
            for client in paying:
                client.result()
        play.strike()
        recovery_s = play.settle(_PATIENCE_S, havoc.look_after)
        play.check()
        outcome = f"{len(play.accepted)} payments accepted and confirmed once through {havoc.struck.total()} faults"
        for name, value in {"fault": outcome, "mode": "asked", "recovery_s": recovery_s}.items():
            record_property(name, value)
        for name, count in sorted(havoc.struck.items()):
            print(f"{count:>5} {name}")
    finally:
        crew.end()


def keep_paying(play: Play, over: threading.Event) -> None:
    while not over.wait(_PAUSE_S):
        play.pay(1)
