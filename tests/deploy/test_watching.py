"""What is watched is there: alert rules and the board name metrics and labels that Dues has, and docs/operating.md says
the same as the rules."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask.testing import FlaskClient

from tests.deploy.gateways import DEPLOY, ROOT, find
from tests.deploy.test_configurations import check

ALERTS = DEPLOY / "prometheus" / "alerts.yml"
BOARD = DEPLOY / "grafana" / "dues.json"
_METRIC = re.compile(r"\b(dues_[a-z0-9_]+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(BOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [rule["expr"] for rule in rules()] + [target["expr"] for panel in panels() for target in panel["targets"]]


@pytest.fixture
def families(client: FlaskClient) -> dict[str, str]:
    """The metrics that `/metrics` describes, by name, with their types."""
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", client.get("/metrics").text, re.MULTILINE))


LABELS = {
    "dues_http_request_duration_seconds": {"method", "route", "status", "le"},
    "dues_queue_": {"queue"},
    "dues_circuit_": {"circuit"},
    "dues_cache_reads": {"result"},
    "dues_replica_reads": {"result"},
    "dues_file_failures": {"error"},
    "dues_build_info": {"version"},
}


def test_every_metric_that_is_asked_for_is_there(families: dict[str, str]):
    samples = set(families)
    for name, kind in families.items():
        if kind == "histogram":
            samples |= {f"{name}_{end}" for end in ("bucket", "count", "sum")}
    asked = {name for expression in expressions() for name, _ in _METRIC.findall(expression)}
    assert len(asked) > 30
    assert asked - samples == set()
    # And the other way round: a board that leaves a number out leaves somebody in the dark.
    shown = {name for target in panels() for each in target["targets"] for name, _ in _METRIC.findall(each["expr"])}
    bare = {re.sub(r"_(bucket|count|sum)$", "", name) if "duration" in name else name for name in shown}
    assert {name for name in families if name.startswith("dues_")} - bare - {"dues_metrics_unreadable_files"} == set()


def test_rates_are_of_what_only_grows_and_nothing_else_is(families: dict[str, str]):
    for expression in expressions():
        counted = set(re.findall(r"rate\((dues_[a-z0-9_]+)", expression))
        for name, _ in _METRIC.findall(expression):
            is_counter = name.endswith("_total") or re.search(r"_(bucket|count)$", name) is not None
            assert (name in counted) == is_counter, expression


def test_every_label_is_one_that_the_metric_has():
    for expression in expressions():
        grouped = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
        for name, matchers in _METRIC.findall(expression):
            has = {"instance", "job"}.union(*(labels for start, labels in LABELS.items() if name.startswith(start)))
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= has, expression
            assert grouped <= has, expression


def test_the_board_has_room_for_each_panel():
    board = json.loads(BOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${source}"


def test_rules_and_guide_say_the_same():
    """Each row of "What to watch" is a rule with its threshold and time, and the other way round but for what is not
    measured by Dues itself."""
    table = (
        (ROOT / "docs" / "operating.md")
        .read_text()
        .partition("## What to watch, and what to do")[2]
        .partition("\n## ")[0]
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]
    watched = {name for row in rows for name, _ in _METRIC.findall(row[0])}
    ruled = {name for rule in rules() for name, _ in _METRIC.findall(rule["expr"])}
    assert watched == ruled
    lasts = {
        "at once": None,
        "30 s": "30s",
        "1 min": "1m",
        "2 min": "2m",
        "5 min": "5m",
        "10 min": "10m",
        "15 min": "15m",
    }
    for row in rows:
        first = _METRIC.findall(row[0])[0][0]
        found = [
            rule
            for rule in rules()
            if first in rule["expr"] and f"{row[0]}".count("503") == rule["expr"].count('"503"')
        ]
        assert any(rule.get("for") == lasts[row[1]] for rule in found), row


def test_promtool_takes_configuration_and_rules(tmp_path: Path):
    promtool = find("promtool")
    check(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    said = check(promtool, "check", "rules", ALERTS)
    assert f"{len(rules())} rules found" in said
    cases = yaml.safe_load((Path(__file__).parent / "alerts.yml").read_text())
    (tests := tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], **cases}))
    check(promtool, "test", "rules", tests)
