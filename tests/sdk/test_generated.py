"""The generated files of the clients are those that the generator makes of the routes as they are declared."""

import ast
import inspect
from pathlib import Path

import dues_client
import pytest
from dues_client._async.groups import AsyncGroups
from dues_client._sync.groups import Groups

from api.app import MODULES
from api.openapi.document import build_document
from sdk.generator.__main__ import outdated
from sdk.generator.shapes import read_document
from sdk.generator.unasync import blocking

CLIENT = Path(dues_client.__file__).parent
MOST_LINES = 2000


def test_generated_files_are_up_to_date() -> None:
    cure = "run `.venv/bin/python -m sdk.generator` and commit what it writes"
    assert outdated() == [], f"routes or schemas have changed: {cure}"


@pytest.mark.parametrize("groups", [Groups, AsyncGroups])
def test_every_operation_has_a_method(groups: type) -> None:
    client = groups(None)
    operations = read_document(build_document(MODULES)).operations
    assert len(operations) > 80
    for operation in operations:
        assert callable(getattr(getattr(client, operation.group), operation.name))


def test_the_clients_offer_the_same() -> None:
    for name, group in vars(Groups(None)).items():  # type: ignore[arg-type]
        other = getattr(AsyncGroups(None), name)  # type: ignore[arg-type]
        public = {key for key in dir(group) if not key.startswith("_")}
        assert public == {key for key in dir(other) if not key.startswith("_")}
        for key in public:
            taken = list(inspect.signature(getattr(group, key)).parameters)
            assert taken == list(inspect.signature(getattr(other, key)).parameters)


@pytest.mark.parametrize(
    ("waiting", "without"),
    [
        ("async def f(x):\n    await g(x)\n", "def f(x):\n    g(x)\n"),
        (
            "async with a as b, c:\n    async for d in b:\n        pass\n",
            "with a as b, c:\n    for d in b:\n        pass\n",
        ),
        ("class AsyncThing(AsyncBase):\n    'of an AsyncThing'\n", "class Thing(Base):\n    'of an Thing'\n"),
        ("x = '''\n  await a\n'''  # await\n", "x = '''\n  a\n'''  # await\n"),
        ("from dues_client._async.x import y\n", "from dues_client._sync.x import y\n"),
    ],
)
def test_the_blocking_form(waiting: str, without: str) -> None:
    assert blocking(waiting) == without


def test_what_is_written_by_hand_stays_small() -> None:
    by_hand = [file for file in CLIENT.rglob("*.py") if "_sync" not in file.parts]
    by_hand = [file for file in by_hand if file.name not in ("models.py", "groups.py")]
    lines = sum(len(file.read_text().splitlines()) for file in by_hand)
    assert 300 < lines < MOST_LINES


def test_the_client_runs_on_its_oldest_python() -> None:
    for file in CLIENT.rglob("*.py"):
        ast.parse(file.read_text(), feature_version=(3, 10))
