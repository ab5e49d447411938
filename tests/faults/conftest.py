"""A house for the tests of faults, and the table of how long each row took to recover."""

from collections.abc import Iterator

import pytest

from tests.faults.house import House


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    house = House()
    yield house
    house.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the rows that passed have recorded."""
    rows = [
        dict(report.user_properties)
        for report in terminalreporter.stats.get("passed", [])
        if dict(getattr(report, "user_properties", [])).get("fault")
    ]
    if not rows:
        return
    terminalreporter.section("time to recovery: from the fault, or from the end of an outage, to the last job's end")
    for found in rows:
        terminalreporter.line(f"{found['fault']:<66} {found['mode']:<6} {found['recovery_s']:>6.1f} s")
