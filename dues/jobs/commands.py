"""`flask jobs …`: slow work, for those who run Dues."""

import click
from flask import Flask
from flask.cli import AppGroup

from dues.jobs.stats import queue_stats

_group = AppGroup("jobs", help="Look at slow work.")
_COLUMNS = ("queue", "depth", "latency", "not relayed", "running", "expired leases")


def init_jobs(app: Flask) -> None:
    app.cli.add_command(_group)


@_group.command("stats")
def stats() -> None:
    """How far behind each queue is: jobs that are due, and how long the oldest has waited."""
    rows = [
        (
            found.queue,
            str(found.depth),
            f"{found.latency_s:.1f} s",
            f"{found.relay_lag_s:.1f} s",
            str(found.running),
            str(found.expired),
        )
        for found in queue_stats()
    ]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, *rows):
        name, *numbers = row
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
        click.echo("  ".join([name.ljust(widths[0]), *cells]))
