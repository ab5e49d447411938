"""How long each fault took to recover from, as a run says at its end and as a table in Markdown."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import groupby


@dataclass(frozen=True)
class Recovery:
    """`seconds` are those from the fault, or from the end of an outage, to the end of the last job; `figures`, where
    there are any, what else was measured."""

    fault: str
    moment: str
    mode: str
    seconds: float
    figures: str = ""


def record(note: Callable[[str, object], None], recovery: Recovery) -> None:
    """Attach it to the running test; `note` is pytest's `record_property`."""
    note("recovery", asdict(recovery))


def recorded(properties: Iterable[tuple[str, object]]) -> list[Recovery]:
    """What `record()` has attached to a test."""
    return [Recovery(**value) for name, value in properties if name == "recovery" and isinstance(value, dict)]


def as_lines(recoveries: Iterable[Recovery]) -> list[str]:
    lines = []
    for found in recoveries:
        lines.append(f"{f'{found.fault}, {found.moment}':<70} {found.mode:<6} {found.seconds:>6.1f} s")
        if found.figures:
            lines.append(f"    {found.figures}")
    return lines


def as_markdown(recoveries: list[Recovery]) -> str:
    """A row for each fault. Of moments that were played both ways: with a mail provider that can be asked / with one
    that cannot."""
    lines = ["| what strikes | when: seconds until the last job has ended |", "|---|---|"]
    for fault, group in groupby(recoveries, lambda found: found.fault):
        moments: dict[str, list[str]] = {}
        for found in group:
            moments.setdefault(found.moment, []).append(f"{found.seconds:.1f}")
        shown = "; ".join(f"{moment}: {' / '.join(seconds)}" for moment, seconds in moments.items())
        lines.append(f"| {fault} | {shown} |")
    lines += ["", *(f"{found.fault}, {found.moment}: {found.figures}." for found in recoveries if found.figures)]
    return "\n".join(lines).rstrip() + "\n"
