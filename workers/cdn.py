"""The job that purges outdated answers from shared caches; dues/cdn.py does the work."""

from dues import cdn as edge
from dues.jobs import Run, kinds
from workers.job import job


@job(kinds.EDGE_PURGE)
def purge(run: Run, tags: list[str], until: int, again: bool) -> None:
    edge.purge(run)
