"""`bin/tour` against a running `bin/run`, and what it says when something is not as it tells."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.local.test_run import PROJECT, Run, home, start

__all__ = ["home", "start"]


def take_tour(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local.tour", *arguments],
        cwd=PROJECT,
        env=os.environ | {"DUES_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_asked_what_it_does_it_does_nothing(home: Path) -> None:
    tour = take_tour(home, "--help")
    assert tour.returncode == 0
    assert tour.stdout.startswith("usage: bin/tour")
    assert take_tour(home, "--fast").returncode == 2


@pytest.mark.timeout(300)
def test_the_tour_of_a_running_dues(home: Path, start: Callable[..., Run]) -> None:
    run = start("--payments", "300")
    run.wait_until_ready()
    tour = take_tour(home)
    assert (tour.returncode, tour.stderr) == (0, ""), tour.stdout + tour.stderr
    for words in (
        "202 Accepted, Location: /v1/jobs/",
        "the payment is succeeded",
        "Subject: Your payment to",
        "past_due, not paid; the next charge is due on ",
        'attachment; filename="invoice-INV-000003.pdf"',
        "301 payments, the one just made among them, and ",
        "the follower's newsfeed shows it at once: The wall is open again.",
        "a stranger's feeds do not",
    ):
        assert words in tour.stdout
    assert re.search(r"100\.0 %  (\d+) of \1 rows", tour.stdout)

    log_ins = home / "demo.json"
    demo = json.loads(log_ins.read_text())
    log_ins.write_text(json.dumps(demo | {"owner": demo["owner"] | {"token": "dues_none"}}))
    differing = take_tour(home)
    assert differing.returncode == 1
    (line,) = differing.stderr.split("\n")[1:-1]
    assert line.startswith("bin/tour: POST /v1/stores/")
    assert "answered 401" in line


def test_a_tour_where_nothing_runs(tmp_path: Path) -> None:
    tour = take_tour(tmp_path)
    assert tour.returncode == 1
    assert f"there is no {tmp_path}/demo.json: start bin/run first" in tour.stderr
    (tmp_path / "demo.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "store_id": "none"}))
    tour = take_tour(tmp_path)
    assert tour.returncode == 1
    assert tour.stderr == "\nbin/tour: nothing answers at http://127.0.0.1:9: is bin/run still running?\n"
