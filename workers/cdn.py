"""The job that has shared caches let go of what is out of date; what it does is in dues/cdn.py."""

from dues import cdn as edge
from dues.jobs import Run, kinds
from workers.job import job


@job(kinds.EDGE_PURGE)
def purge(run: Run, tags: list[str], until: int, again: bool) -> None:
    edge.purge(run)
