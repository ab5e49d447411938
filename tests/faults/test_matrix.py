"""The fault matrix, with real processes: each payment that was accepted is charged once and confirmed by one mail,
whatever is killed, stopped or away, and its status URLs come to the end that its rows have."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.clients import CLIENTS
from tests.faults.gateway_rows import GATEWAY_ROWS
from tests.faults.house import Crew, House, Mode
from tests.faults.mailings import MAILINGS
from tests.faults.matrix import ROWS, Row
from tests.faults.members import MEMBERS
from tests.faults.outages import OUTAGES
from tests.faults.play import Play
from tests.faults.recoveries import Recovery, record

Stage = Callable[[Row, Mode], Play]

# Quick ones, each of another kind: what runs without being asked for. Workers that are killed on the way of a mail are
# in tests/workers/test_payments.py and tests/mail/test_doubt.py, and a Redis that is gone in
# tests/workers/test_stopping.py.
SHORT = {
    ("web -9, after it, before the answer", "asked"),
    ("relay -9, after push", "asked"),
    ("SMTP, reset after it accepted", "plain"),
    ("PostgreSQL, terminated backends", "asked"),
}
ALL = [(row, mode) for row in (*ROWS, *OUTAGES, *GATEWAY_ROWS, *MAILINGS, *CLIENTS, *MEMBERS) for mode in row.modes]


def parameters(chosen: list[tuple[Row, Mode]]) -> pytest.MarkDecorator:
    found = [pytest.param(row, mode, id=f"{row.name} ({mode})") for row, mode in chosen]
    return pytest.mark.parametrize(("row", "mode"), found)


@pytest.fixture
def stage(house: House, tmp_path: Path) -> Iterator[Stage]:
    """Sets the stage for a row: a crew with its failpoints, and a customer."""
    crews: list[Crew] = []

    def set_stage(row: Row, mode: Mode) -> Play:
        crews.append(Crew(house, tmp_path, mode, row.lines, row.lease_s))
        crews[0].wait_until_ready()
        return Play(house, crews[0], mode, tmp_path, row.gateway)

    yield set_stage
    house.mend()
    for crew in crews:
        crew.end()


def hold(stage: Stage, row: Row, mode: Mode, note: Callable[[str, object], None], *, within: float = 1.0) -> None:
    """`within`: how many times the longest time of the row recovery may take."""
    play = stage(row, mode)
    row.act(play)
    play.settle()
    play.check(in_doubt=row.in_doubt, rejected=row.rejected)
    recovery_s = play.recovery_s()
    assert recovery_s < row.within_s * within
    record(note, Recovery(row.fault, row.moment, mode, recovery_s, play.figures))


@parameters([(row, mode) for row, mode in ALL if (row.name, mode) in SHORT])
def test_a_few_faults(stage: Stage, row: Row, mode: Mode, record_property: Callable[[str, object], None]) -> None:
    # Other tests take their share of the processors: how quick recovery is, is held where the matrix runs alone.
    hold(stage, row, mode, record_property, within=4.0)


@pytest.mark.faults
@pytest.mark.timeout(300)
@parameters(ALL)
def test_every_fault(stage: Stage, row: Row, mode: Mode, record_property: Callable[[str, object], None]) -> None:
    hold(stage, row, mode, record_property)
