"""A house for the tests of faults, and the table of how long each row took to recover."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.house import House
from tests.faults.recoveries import as_lines, as_markdown, recorded


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    house = House()
    yield house
    house.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the rows that passed have recorded."""
    passed = terminalreporter.stats.get("passed", [])
    found = [recovery for report in passed for recovery in recorded(getattr(report, "user_properties", []))]
    if not found:
        return
    terminalreporter.section("time to recovery: from the fault, or from the end of an outage, to the last job's end")
    for line in as_lines(found):
        terminalreporter.line(line)
    if path := terminalreporter.config.getoption("faults_table"):
        Path(path).write_text(as_markdown(found))
