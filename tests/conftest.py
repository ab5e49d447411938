"""Fixtures that every test may use; tests/servers.py is where the servers behind them come from."""

import gc
import os
import re
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakKeyDictionary

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import settings
from sqlalchemy import Engine

from api.app import create_app
from dues.billing import audit
from dues.postgres import connect, db
from dues.postgres import spread as spreading
from local import ports
from tests import refusals
from tests.citus_cluster import VARIABLE, CitusCluster
from tests.contention import Contention
from tests.factory import Factory
from tests.kept_connections import KeptConnections, kept_connections
from tests.postgres_versions import PACKAGES, programs_of
from tests.recorder import QueryRecorder
from tests.scratch import use_memory
from tests.servers import Cluster, Mailbox, Servers
from tests.tag_guard import TagGuard

# How a module says that none of its tests needs a server.
_UNIT = "\npytestmark = pytest.mark.unit\n"
_CLUSTER = pytest.StashKey[Cluster]()
_LONG = {
    "faults": "the fault matrix: processes killed at named lines, servers that misbehave",
    "slow": "tests that take a minute or so",
    "wide": "what the plain run shows in one form, in its others too: hosts, formats, sizes, more that is made up",
    "soak": "hours of load, watching memory",
    "large": "millions of rows",
    "generators": "clients that generators make of the OpenAPI document; installs these from PyPI and npm",
    "sdk": "the clients as packages: built, installed, type-checked, in every Python and in a browser",
}
_LONGEST_S = 7200
# What is made up is the same each time; `--hypothesis-profile=long` makes up other things, and more of them.
settings.register_profile("short", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("long", deadline=None, max_examples=3000)
settings.load_profile("short")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dues", "long tests, left out unless asked for; with an option only those it names run")
    for name, what in _LONG.items():
        group.addoption(f"--{name}", action="store_true", help=what)
    group.addoption("--unit", action="store_true", help="only the tests that need no servers, which are not started")
    group.addoption("--partitioned", action="store_true", help="on tables by month (flask partitions)")
    group.addoption("--citus", action="store_true", help=f"on tables by store on two workers of Citus: {VARIABLE}")
    versions = ", ".join(map(str, sorted(PACKAGES)))
    group.addoption(
        "--postgres", metavar="VERSION", type=int, choices=PACKAGES, help=f"on another PostgreSQL, of npm: {versions}"
    )
    group.addoption("--chaos", metavar="TIME", type=_seconds, help="random kills of everything for a time such as 10m")
    group.addoption("--mutations", metavar="COUNT", type=int, help="how many broken requests are made up")
    group.addoption("--mutations-seed", metavar="SEED", type=int, help="try those of a run that failed")
    group.addoption("--faults-table", metavar="FILE", help="write the time to recovery from each fault, as Markdown")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None:
        raise ValueError("a time is a number and s, m or h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def pytest_configure(config: pytest.Config) -> None:
    use_memory()
    # The tests themselves are objects that stay. To look for garbage among them again and again took a third of the
    # time of collecting them. Processes of Dues that tests start are not changed by this.
    gc.set_threshold(50_000, 20, 50)
    if worker := getattr(config, "workerinput", None):
        # Those that look for a free port at the same time find different ones.
        ports._RANGE = ports._RANGE[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]
    for name in (*_LONG, "chaos"):
        config.addinivalue_line("markers", f"{name}: {_LONG.get(name, 'random kills of everything')}")
    config.addinivalue_line("markers", "unit: a module whose tests need no servers (bin/test --unit)")
    config.addinivalue_line(
        "markers", "lasts: takes a minute or more, and begins first, so that nothing waits for it alone"
    )
    config.addinivalue_line("markers", "typeset: looks at documents, so that `work` has the true typesetter set them")
    config.addinivalue_line("markers", "one_server(why): says nothing of Citus, for that reason, and is skipped there")
    only_hands_out = bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")
    if not only_hands_out and not any(config.getoption(option) for option in ("collectonly", "help", "unit")):
        version, on_citus = config.getoption("postgres"), config.getoption("citus")
        if on_citus and not CitusCluster.is_there():
            pytest.exit(f"--citus: no test ran, since {VARIABLE} names no PostgreSQL with the extension citus", 0)
        programs = programs_of(version, Path(config.getini("cache_dir")).parent) if version else None
        cluster = config.stash[_CLUSTER] = Cluster(
            partitioned=config.getoption("partitioned"), citus=on_citus, programs=programs
        )
        os.environ["DUES_TESTS_CLUSTER"], os.environ["DUES_TESTS_TEMPLATE"] = cluster.url, cluster.template
        os.environ["DUES_TESTS_LOG"] = str(cluster.log or "")


def pytest_unconfigure(config: pytest.Config) -> None:
    if cluster := config.stash.get(_CLUSTER, None):
        cluster.stop()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--unit` no other module is even imported, which would take longer than the tests do."""
    if config.getoption("unit") and collection_path.suffix == ".py":
        return _UNIT not in collection_path.read_text() or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"names that are others in each process: {unstable[0]} and {len(unstable) - 1} more")
    units = [item for item in items if item.get_closest_marker("unit")]
    if served := [item.nodeid for item in units if "servers" in getattr(item, "fixturenames", ())]:
        raise pytest.UsageError(f"marked as unit, and starts servers: {served[0]} and {len(served) - 1} more")
    asked = {name for name in (*_LONG, "chaos") if config.getoption(name)}
    left_out = [
        item
        for item in items
        if (marks := {mark.name for mark in item.iter_markers()} & {*_LONG, "chaos"}) - asked or (asked and not marks)
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: item.get_closest_marker("lasts") is None)
    if config.getoption("citus"):
        _skip_on_citus(items)
    for item in items:
        # A long test is not ended by what tells a short one that hangs.
        marks = {mark.name for mark in item.iter_markers()}
        if marks & {*_LONG, "chaos"} and "timeout" not in marks:
            item.add_marker(pytest.mark.timeout(_LONGEST_S))


def _skip_on_citus(items: list[pytest.Item]) -> None:
    for item in items:
        if mark := item.get_closest_marker("one_server"):
            (why,) = mark.args
            item.add_marker(pytest.mark.skip(reason=f"not on Citus: {why}"))


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Bytes are told apart by their place, not by what is in them: gzip, for one, writes the second of the day there,
    and processes that share the tests refuse to begin when each has made other names for them."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refusals.tell(report)
    return report


@pytest.fixture(scope="session")
def servers(worker_id: str) -> Iterator[Servers]:
    """The database, Redis and mail server of this process of tests."""
    servers = Servers(os.environ["DUES_TESTS_CLUSTER"], os.environ["DUES_TESTS_TEMPLATE"], worker_id)
    yield servers
    servers.stop()


@pytest.fixture(scope="session")
def _app(servers: Servers) -> Iterator[Flask]:
    app = create_app(servers.settings())
    app.testing = False
    app.test_client_class = refusals.Client
    with kept_connections(app):
        yield app


@pytest.fixture(scope="session")
def _recorder(_app: Flask) -> QueryRecorder:
    with _app.app_context():
        recorder = QueryRecorder(db.engine)
    recorder.listen(TagGuard())
    return recorder


@pytest.fixture(scope="session")
def clean_books(_app: Flask) -> Iterator[Callable[[Flask], None]]:
    """`clean_books(app)` holds where the audit finds nothing. The audit opens some connections, on each of which
    PostgreSQL would have to look up what the tables are like to plan its statements; on those kept it knows."""
    kept = KeptConnections(lambda: connect(_app.extensions["settings"], "dues audit"))

    def look(app: Flask) -> None:
        with app.app_context(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(audit, "connect", lambda *_: kept())
            assert audit.audit() == []

    yield look
    kept.close()


@pytest.fixture
def clean(servers: Servers) -> None:
    """An empty database and an empty Redis."""
    servers.clean()


@pytest.fixture
def fresh_tables(servers: Servers, clean: None) -> None:
    """The tables as migrations left them, for tests that look at PostgreSQL's plans or count the blocks that it reads:
    rows that earlier tests have deleted are read, too."""
    servers.clean(anew=True)


@pytest.fixture
def app(_app: Flask, _recorder: QueryRecorder, clean: None) -> Flask:
    """The application, on an empty database. Writes that name no tags fail."""
    return _app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """Flask's test client: no server between, errors answered as in production."""
    return app.test_client()


@pytest.fixture(params=[False, True], ids=["one server", "many servers"])
def spread(request: pytest.FixtureRequest, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dues takes the database for one server, and then for one that is spread over several. What it asks otherwise
    there, PostgreSQL itself takes as well; that Citus does is seen with `--citus` alone."""
    if request.param:
        # Of other applications of the test it is asked.
        known = WeakKeyDictionary[Engine, bool]()
        with app.app_context():
            known[db.engine] = True
        monkeypatch.setattr(spreading, "is_spread_by_engine", known)
        monkeypatch.setattr(spreading, "_ASK", "select true")


@pytest.fixture
def make(servers: Servers, clean: None) -> Factory:
    """Makes rows: `make.store()`, `make.payment(store, user)`, … see tests/factory.py."""
    return Factory(servers.direct)


@pytest.fixture
def contention(servers: Servers, make: Factory) -> Iterator[Contention]:
    """Has writers run into one another: see tests/contention.py."""
    with ThreadPoolExecutor(4) as pool:
        yield Contention(servers, make, pool)


@pytest.fixture
def queries(_recorder: QueryRecorder, app: Flask) -> QueryRecorder:
    """Records SQL: `with queries() as seen: …`."""
    return _recorder


@pytest.fixture
def mailbox(servers: Servers) -> Iterator[Mailbox]:
    """The mails that arrive, and the mail server's behaviour."""
    mailbox = Mailbox(servers.mail)
    yield mailbox
    mailbox.behave()


@pytest.fixture(scope="session")
def postgres_log() -> Path:
    """What the PostgreSQL of the tests logs, where it is one that they have started."""
    if not (path := os.environ["DUES_TESTS_LOG"]):
        pytest.skip("the log of another's PostgreSQL cannot be read")
    return Path(path)


@pytest.fixture(scope="session")
def chaos_s(pytestconfig: pytest.Config) -> float:
    """How long `--chaos` was asked to last, in seconds."""
    return float(pytestconfig.getoption("chaos"))
