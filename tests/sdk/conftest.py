"""A whole Dues for the clients to talk to: a web server, a relay and workers."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from dues_client import Dues

from tests.factory import Factory
from tests.rows.people import PASSWORD
from tests.servers import Mailbox, Servers
from tests.webserver import WebServer
from tests.workers.conftest import Processes


@dataclass
class Town:
    """A store with its owner and a customer, at a running server."""

    url: str
    make: Factory
    mailbox: Mailbox
    processes: Processes

    def __post_init__(self) -> None:
        self.owner, self.customer = self.make.user(), self.make.user()
        self.store = self.make.store(self.owner)
        self.store_id = str(self.store.id)
        self.package = self.make.package(self.store)

    @property
    def password(self) -> str:
        return PASSWORD

    def dues(self, user: object, **options: float) -> Dues:
        return Dues(self.make.token(user), url=self.url, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def web(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    servers.clean()
    with WebServer(servers, threads=4) as web:
        yield web


@pytest.fixture(scope="module")
def processes(servers: Servers, web: WebServer) -> Iterator[Processes]:
    processes = Processes(servers)
    processes.start_both("critical:1,default:1,slow:1")
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def module_make(servers: Servers, web: WebServer) -> Factory:
    return Factory(servers.direct)


@pytest.fixture
def town(web: WebServer, processes: Processes, servers: Servers, module_make: Factory) -> Town:
    """New people in a new store; what other tests have left is still there."""
    return Town(web.url, module_make, Mailbox(servers.mail), processes)


@pytest.fixture
def owner(town: Town) -> Iterator[Dues]:
    with town.dues(town.owner) as dues:
        yield dues


@pytest.fixture
def customer(town: Town) -> Iterator[Dues]:
    with town.dues(town.customer) as dues:
        yield dues
