"""Random kills of everything under load, for a time: `bin/test --chaos 10m`."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.havoc import Havoc
from tests.faults.house import Crew, House
from tests.faults.play import Play
from tests.faults.recoveries import Recovery, record

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
        with play.traffic(_CLIENTS, _PAUSE_S):
            try:
                until = time.monotonic() + chaos_s
                while time.monotonic() < until:
                    havoc.strike()
            finally:
                havoc.end()
        play.strike()
        play.settle(_PATIENCE_S, havoc.look_after)
        play.check()
        moment = f"{havoc.struck.total()} faults in {chaos_s:g} s"
        figures = f"{len(play.accepted)} payments accepted, each charged once and confirmed by one mail"
        record(record_property, Recovery("chaos", moment, "asked", play.recovery_s(), figures))
        for name, count in sorted(havoc.struck.items()):
            print(f"{count:>5} {name}")
    finally:
        crew.end()
