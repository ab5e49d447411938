"""The tests themselves: each run must find the same ones by the same names."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_every_process_finds_the_same_tests(request: pytest.FixtureRequest, pytestconfig: pytest.Config):
    """A name that depends on the clock, on chance or on the order of a set is another one in each process, and the
    processes that share a run then refuse to begin, which is how the whole run tests it. This finds all of those names,
    also where one process runs the tests: its own were found at another second, with another seed of hashes."""
    mine = {item.nodeid for item in request.session.items}
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *_chosen(pytestconfig)],
        check=False,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    theirs = {line for line in found.stdout.splitlines() if "::" in line}
    assert theirs, found.stdout + found.stderr
    assert mine <= theirs, sorted(mine - theirs)[:10]


def _chosen(config: pytest.Config) -> list[str]:
    """The files and folders that this run was asked for."""
    return [str(argument).partition("::")[0] for argument in config.args]
