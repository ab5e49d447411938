"""What is printed: tables and bars on a terminal, plain lines elsewhere, JSON where it is asked for."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from dues_client.models import Job

_BAR = 30
_WIDEST = 40


class Output:
    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.is_terminal = sys.stdout.isatty()
        self._draws = sys.stderr.isatty()
        self._drawn = ""

    def rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Documents of one kind, as they come in where they need not be aligned."""
        if self._as_json:
            for row in rows:
                self.document(row)
        elif self.is_terminal:
            self._table([_cells(row) for row in rows])
        else:
            names: list[str] = []
            for cells in map(_cells, rows):
                if not names:
                    names = list(cells)
                    print("\t".join(names))
                print("\t".join(cells.get(name, "") for name in names))

    def document(self, document: Mapping[str, Any]) -> None:
        if self._as_json:
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            print(json.dumps(document, ensure_ascii=False, indent=2), flush=True)

    def line(self, text: str, document: Mapping[str, Any] | None = None) -> None:
        """One line; where JSON is asked for, the document instead."""
        if self._as_json and document is not None:
            self.document(document)
        elif not self._as_json:
            print(text, flush=True)

    def progress(self, job: Job) -> None:
        """A bar on a terminal that is drawn over and over; elsewhere nothing, since nobody watches."""
        if self._draws:
            percent = job.progress.percent if job.progress else 100.0 if job.done else 0.0
            filled = int(_BAR * percent / 100)
            count = f" {job.progress.completed:,} of {job.progress.total:,} {job.progress.unit}" if job.progress else ""
            line = f"{job.kind} [{'█' * filled}{'·' * (_BAR - filled)}] {percent:5.1f} % {job.status}{count}"
            sys.stderr.write("\r" + line.ljust(len(self._drawn)) + ("\n" if job.done else ""))
            sys.stderr.flush()
            self._drawn = "" if job.done else line

    @staticmethod
    def _table(rows: list[dict[str, str]]) -> None:
        if not rows:
            print("nothing")
            return
        widths = {name: max(len(row.get(name, "")) for row in [*rows, {name: name}]) for name in rows[0]}
        widths = {name: min(width, _WIDEST) for name, width in widths.items()}
        left, shown = shutil.get_terminal_size().columns, set[str]()
        # Where there is no room for all, ids of other things are left out first.
        for name in sorted(widths, key=lambda name: name.endswith("_id")):
            if not shown or left >= widths[name]:
                shown.add(name)
                left -= widths[name] + 2
        columns = [name for name in widths if name in shown]
        for row in [{name: name.upper() for name in columns}, *rows]:
            cells = [_cut(row.get(name, ""), widths[name]).ljust(widths[name]) for name in columns]
            print("  ".join(cells).rstrip())


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """What a line has room for: no links, and no lists of what belongs to a row."""
    return {name: _text(value) for name, value in row.items() if name != "links" and not _is_list(value)}


def _is_list(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return str(value.get("name") or value.get("id") or json.dumps(value, ensure_ascii=False))
    if isinstance(value, list):
        return ",".join(map(str, value))
    # What others have written must not move the cursor, nor break a line in two.
    return "".join(character if character.isprintable() else " " for character in str(value))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
