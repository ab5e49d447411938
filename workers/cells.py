"""Jobs of the directory of cells."""

from uuid import UUID

from dues.cells import places, telling
from dues.cells.calls import call_cell
from dues.cells.signatures import is_directory
from dues.jobs import Run, kinds
from dues.postgres import transaction
from workers.job import job


@job(kinds.CELLS_TELL)
def tell(run: Run, user_id: str) -> None:
    telling.tell(UUID(user_id), call_cell)


@job(kinds.FORGET_PLACES)
def forget_places(run: Run) -> dict[str, int]:
    if not is_directory():
        return {"forgotten": 0}
    forgotten = places.forget_unmade(call_cell)
    while True:
        run.check()
        with transaction():
            if not places.forget_keys():
                return {"forgotten": forgotten}
