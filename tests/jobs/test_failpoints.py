"""Failpoints do nothing unless asked for, and then once."""

import signal
import subprocess
import sys

import pytest

from dues.jobs.failpoints import Armed, FailpointReached, failpoint, parse


def run(spec: str) -> int:
    code = "from dues.jobs.failpoints import failpoint\nfailpoint('a.line')\nfailpoint('another')"
    return subprocess.run(
        [sys.executable, "-c", code], env={"DUES_FAILPOINTS": spec}, timeout=20, check=False
    ).returncode


def test_the_first_process_that_comes_by_is_killed(tmp_path):
    assert run(f"other=kill:{tmp_path}/x,a.line=kill:{tmp_path}/marker") == -signal.SIGKILL
    assert run(f"a.line=kill:{tmp_path}/marker") == 0
    assert not (tmp_path / "x").exists()


def test_raising(tmp_path, monkeypatch):
    monkeypatch.setattr("dues.jobs.failpoints._armed", {"x": Armed("raise", f"{tmp_path}/marker")})
    with pytest.raises(FailpointReached):
        failpoint("x")
    failpoint("x")
    failpoint("y")


@pytest.mark.parametrize("spec", ["x", "x=kill", "x=burn:/tmp/m", "x=kill:"])
def test_what_cannot_be_read_is_refused(spec: str):
    with pytest.raises(ValueError, match="DUES_FAILPOINTS"):
        parse(spec)
