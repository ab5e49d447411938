"""Results as a Markdown page for people and JSON for programs, including results that got worse."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ujson

from bench.data import Data
from bench.machine import describe
from bench.rounds import Figure, Goal, show

HERE = Path(__file__).resolve().parent


@dataclass
class Suite:
    """The tables and goals of one suite."""

    title: str
    about: str
    tables: list[tuple[str, dict[str, Figure]]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    on: dict[str, str] = field(default_factory=dict)

    def table(self, title: str, figures: dict[str, Figure]) -> None:
        self.tables.append((title, figures))
        print(f"\n{title}")
        for figure in figures.values():
            print(f"  {figure.name:36} {show(figure.median):>10} {figure.unit}  ({figure.spread()})", flush=True)

    def goal(self, goal: Goal) -> None:
        self.goals.append(goal)
        sign = "<=" if goal.at_most else ">="
        print(
            f"  {goal.what}: {show(goal.ratio)} ({'met' if goal.met else 'MISSED'}: {sign} {goal.wanted})", flush=True
        )

    def machine(self, data: Data) -> None:
        self.on = describe(data.postgres_version, data.redis_version)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.about, ""]
        for title, figures in self.tables:
            unit = next(iter(figures.values())).unit
            lines += [f"### {title}", "", f"| | median, {unit} | range |", "|---|---:|---:|"]
            lines += [f"| {f.name} | {show(f.median)} | {f.spread()} |" for f in figures.values()]
            lines.append("")
        if self.goals:
            lines += ["### Against the goals", "", "| ratio of medians | measured | goal | |", "|---|---:|---:|---|"]
            for g in self.goals:
                wanted = f"{'≤' if g.at_most else '≥'} {g.wanted:g}"
                lines.append(f"| {g.what} | {show(g.ratio)} | {wanted} | {'met' if g.met else 'missed'} |")
            lines.append("")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.on,
            "markdown": self.markdown(),
            "tables": {t: {f.name: {"unit": f.unit, "values": f.values} for f in fs.values()} for t, fs in self.tables},
            "goals": [{"what": g.what, "ratio": g.ratio, "wanted": g.wanted, "met": g.met} for g in self.goals],
        }


def save(suites: list[Suite], quick: bool) -> None:
    """Store each suite's newest results, and write the page again; results of suites that did not run are kept."""
    kept = HERE / "results.json"
    documents = {d["title"]: d for d in ujson.loads(kept.read_text())} if kept.exists() else {}
    documents |= {suite.title: suite.document() | {"quick": quick} for suite in suites}
    kept.write_text(ujson.dumps(list(documents.values()), indent=1, ensure_ascii=False, escape_forward_slashes=False))
    page = [
        "# Results",
        "",
        "Written by `python -m bench`. The server under test is kept to one core and the load to the other;",
        "PostgreSQL and Redis run on either.",
        "Rounds are interleaved; figures are medians with their range. Only ratios within a run mean anything.",
        "",
    ]
    for document in documents.values():
        machine = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
        page += [document["markdown"], f"{document['date']}{' (quick)' if document['quick'] else ''}: {machine}", ""]
    (HERE / "RESULTS.md").write_text("\n".join(page))
