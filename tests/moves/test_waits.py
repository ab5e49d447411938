"""Clients that wait for something of a store that moves are answered, and no server goes on holding them."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace as Row
from uuid import UUID

import pytest

from dues.ids import new_id
from tests.api.waits.conftest import Answer, Caller, Hall, pool
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.moves.conftest import PAYMENT, End
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

__all__ = ["pool"]

# Longer than the test may take: who is answered was not simply let go.
_LONG = "wait=60"


@pytest.fixture(
    scope="module", params=["server:app", pytest.param("wsgi:app", marks=pytest.mark.slow)], ids=["loop", "threads"]
)
def web(request: pytest.FixtureRequest, servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=8, target=request.param) as server:
        yield server


class Waiting:
    """A store's owner, who waits for all that one can wait for."""

    def __init__(self, hall: Hall, store: Row, owner: Caller) -> None:
        self._hall, self._store, self._owner = hall, store, owner
        self.job_id = UUID(self._pay().json["links"]["job"].rpartition("/")[2])
        self.answers: dict[str, Future[Answer]] = {
            "payment": owner.later("POST", self._payments, PAYMENT, Idempotency_Key="2", Prefer=_LONG)
        }
        hall.wait_for(1)
        self.answers["stream"] = owner.later("GET", f"/v1/jobs/{self.job_id}/events")
        self.answers["job"] = owner.later("GET", f"/v1/jobs/{self.job_id}", If_None_Match='"1"', Prefer=_LONG)
        hall.wait_for(3)
        cursor, has_more = "", True
        while has_more:
            page = owner.get(f"/v1/sync{cursor and '?cursor='}{cursor}").json
            cursor, has_more = page["cursor"], page["has_more"]
        self.answers["sync"] = owner.later("GET", f"/v1/sync?cursor={cursor}", Prefer=_LONG)
        wait_until(lambda: hall.waiting_for_changes == 1, 15, "a client that waits for changes")

    @property
    def _payments(self) -> str:
        return f"/v1/stores/{self._store.id}/payments"

    def _pay(self) -> Answer:
        answer = self._owner.ask("POST", self._payments, PAYMENT, Idempotency_Key="1")
        assert answer.status == 202, answer.body
        return answer

    @property
    def answered(self) -> set[str]:
        return {name for name, answer in self.answers.items() if answer.done()}


def test_who_waits_is_answered_as_a_store_leaves(
    web: WebServer, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor, here: End, elsewhere: End
) -> None:
    hall, owner = Hall(web, make, jobs, pool), make.user()
    store = make.store(owner)
    waiting = Waiting(hall, store, hall.caller(owner))
    while_copying = list[set[str]]()
    here.hear = lambda line: while_copying.append(waiting.answered)
    here.move(store, elsewhere)
    # What they wait for has not changed until the store is gone.
    assert while_copying[0] == set()
    answers = {name: answer.result(30) for name, answer in waiting.answers.items()}
    assert {name: answer.status for name, answer in answers.items()} == {
        # As it was accepted: whoever asks for it again is told where it is.
        "payment": 202,
        # It ends, and a client that comes back hears that there is no such job.
        "stream": 200,
        "job": 404,
        "sync": 200,
    }
    assert answers["stream"].body.count(b"event: status") == 1
    gone = [one for one in answers["sync"].json["changes"] if one["type"] == "payment" and one["op"] == "delete"]
    assert answers["sync"].json["reset"] or len(gone) == 2
    hall.wait_for(0)
    assert hall.waiting_for_changes == 0
    again = hall.caller(owner).ask("POST", f"/v1/stores/{store.id}/payments", PAYMENT, Idempotency_Key=new_id().hex)
    assert (again.status, again.json["code"]) == (421, "store_moved")
