"""What the servers of cells remember of requests: little of each, and what spares them work."""

from typing import Any

import pytest

from api.cells import directing, entrance
from api.cells.entrance import Entrance, Unwritten
from api.request import make_request
from config import load_settings
from dues.cells.question import Asked
from dues.ids import new_id

pytestmark = pytest.mark.unit

TOKEN = f"dues_{'t' * 43}"
SETTINGS = {
    "DATABASE_URL": "postgresql://dues@127.0.0.1:1/dues",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "SECRET_KEY": "k" * 40,
}


def test_a_cell_remembers_few_bytes_of_a_caller_however_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr(entrance, "write_facts", lambda *facts: written.append(facts))
    said: Any = type("Said", (), {"facts": "f" * 7_900, "read": lambda self: "what was said"})()
    monkeypatch.setattr(entrance, "_verified", lambda *_: said)
    door = Entrance(load_settings(SETTINGS))
    request = make_request("GET", f"/v1/stores/{new_id()}", {"authorization": f"Bearer {TOKEN}"}, "198.51.100.1")

    unwritten = door.check(request)
    assert isinstance(unwritten, Unwritten)
    door.write(unwritten)

    assert written == [("what was said", TOKEN)]
    assert door.check(request) is None
    assert [len(known) for known in door._seen] == [32]
    # Other facts of the same caller are others.
    said.facts = "g" * 7_900
    assert door.check(request) is not None


def test_a_job_of_the_directorys_own_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directing, "_jobs", directing._Jobs())
    monkeypatch.setattr(directing, "fetch_row", lambda sql, values: (None,))
    job = new_id()
    request = make_request("GET", f"/v1/jobs/{job}", {"authorization": f"Bearer {TOKEN}"}, "198.51.100.1")

    assert directing.named_in(request) == Asked(job_id=job)
    assert directing._jobs.store_of(job) is None
    # Nothing that anybody has to be asked about.
    assert directing.named_in(request) == Asked()
