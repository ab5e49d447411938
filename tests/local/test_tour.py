"""What `bin/tour` says where there is nothing to show. What it shows: test_life.py."""

import json
from pathlib import Path

from tests.local.runs import take_tour


def test_asked_what_it_does_it_does_nothing(tmp_path: Path) -> None:
    tour = take_tour(tmp_path, "--help")
    assert tour.returncode == 0
    assert tour.stdout.startswith("usage: bin/tour")
    assert take_tour(tmp_path, "--fast").returncode == 2


def test_a_tour_where_nothing_runs(tmp_path: Path) -> None:
    for torn in (None, "", "[]"):
        if torn is not None:
            (tmp_path / "demo.json").write_text(torn)
        tour = take_tour(tmp_path)
        assert tour.returncode == 1
        assert f"{tmp_path}/demo.json is not there, or not whole: start bin/run first" in tour.stderr
    (tmp_path / "demo.json").write_text(json.dumps({"url": "http://127.0.0.1:9", "store_id": "none"}))
    tour = take_tour(tmp_path)
    assert tour.returncode == 1
    assert tour.stderr == "\nbin/tour: nothing answers at http://127.0.0.1:9: is bin/run still running?\n"
