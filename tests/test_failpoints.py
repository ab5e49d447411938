"""Failpoints do nothing unless asked for, and then once."""

import multiprocessing
import signal

import pytest

from dues import failpoints
from dues.failpoints import Armed, FailpointReached, failpoint, parse

_context = multiprocessing.get_context("forkserver")


def reach(spec: str) -> None:
    failpoints._armed = parse(spec)
    failpoint("a.line")
    failpoint("another")


def run(spec: str) -> int | None:
    process = _context.Process(target=reach, args=(spec,))
    process.start()
    process.join(20)
    return process.exitcode


def test_the_first_process_that_comes_by_is_killed(tmp_path):
    assert run(f"other=kill:{tmp_path}/x,a.line=kill:{tmp_path}/marker") == -signal.SIGKILL
    assert run(f"a.line=kill:{tmp_path}/marker") == 0
    assert not (tmp_path / "x").exists()


def test_raising(tmp_path, monkeypatch):
    monkeypatch.setattr("dues.failpoints._armed", {"x": Armed("raise", f"{tmp_path}/marker")})
    with pytest.raises(FailpointReached):
        failpoint("x")
    failpoint("x")
    failpoint("y")


@pytest.mark.parametrize("spec", ["x", "x=kill", "x=burn:/tmp/m", "x=kill:"])
def test_what_cannot_be_read_is_refused(spec: str):
    with pytest.raises(ValueError, match="DUES_FAILPOINTS"):
        parse(spec)
