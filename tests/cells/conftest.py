"""A directory and two cells under one name, behind Caddy: each a whole Dues with servers of its own."""

import http.client
import json
import os
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import pytest
from flask import Flask

from api.app import create_app
from dues.cells.signatures import key_for
from dues.ids import new_id
from dues.postgres import db
from local.cells import CellsGateway
from local.ports import free_ports
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import Servers, running
from tests.webserver import WebServer

KEY = "a-key-of-the-tests-that-makes-the-keys-of-cells"
MAIL_SECRET = "whsec_" + b64encode(b"of the tests' mail provider, 32 b").decode()
NAMES = ("a", "b")
_PATIENCE_S = 30.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


class Stack:
    """One Dues: the directory, whose name is empty, or a cell."""

    def __init__(self, name: str, servers: Servers, port: int, settings: Mapping[str, str], until: ExitStack) -> None:
        self.name, self.servers, self.port, self.settings = name, servers, port, settings
        self.app: Flask = create_app(servers.settings(**settings))
        self.app.testing = False
        self.make = Factory(servers.direct)
        self._until = until

    def serve(self, target: str) -> None:
        self.web = self._until.enter_context(
            WebServer(self.servers, target=target, **self.environ | {"PORT": str(self.port)})
        )

    @contextmanager
    def away(self) -> Iterator[None]:
        """For the length of the block no web server of it answers."""
        self.web.__exit__(None, None, None)
        try:
            yield
        finally:
            self.web.__enter__()

    @property
    def environ(self) -> dict[str, Any]:
        return {name.upper(): value for name, value in self.settings.items()}

    def work(self) -> None:
        """Do what is due."""
        Work(self.app, self.make).drain()

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        """Past the gateway."""
        return ask(self.port, method, path, body, **fields)


class Name:
    """All of it, as clients and operators see it."""

    def __init__(self, directory: Stack, cells: dict[str, Stack], port: int) -> None:
        self.directory, self.cells, self.port = directory, cells, port

    @property
    def stacks(self) -> list[Stack]:
        return [self.directory, *self.cells.values()]

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        """Again where the gateway has found nobody to pass it on to: beside other tests a server may be too late with
        what the gateway asks of it."""
        until = time.monotonic() + _PATIENCE_S
        while is_by_the_gateway(answer := ask(self.port, method, path, body, **fields)) and time.monotonic() < until:
            time.sleep(0.2)
        return answer

    def raw(self, method: str, target: str, parts: list[bytes], fields: Mapping[str, str]) -> tuple[int, bytes]:
        """The same, with a target as it stands, and a body in chunks."""
        until = time.monotonic() + _PATIENCE_S
        while (answer := raw(self.port, method, target, parts, fields))[0] == 503 and time.monotonic() < until:
            time.sleep(0.2)
        return answer

    def sign_up(self, name: str = "Ada") -> "Client":
        email = f"{new_id().hex}@example.com"
        account = {"email": email, "name": name, "password": "a long enough passphrase"}
        answer = self.ask("POST", "/v1/users", account)
        assert answer.status == 201, answer
        token = self.ask("POST", "/v1/tokens", {"email": email, "password": account["password"]})
        assert token.status == 201, token
        return Client(self, answer.body["id"], email, token.body["token"], token.body["id"])

    def client_of(self, cell: str) -> "Client":
        """Somebody whose stores are made in this cell."""
        while True:
            client = self.sign_up()
            if client.store.cell == cell:
                return client

    def place(self, store_id: str) -> str:
        found = self.directory.make.value("select cell from store_places where store_id = %(id)s", {"id": store_id})
        return str(found or "")

    def work(self) -> None:
        for stack in self.stacks:
            stack.work()


class Shop(NamedTuple):
    id: str
    cell: str

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.id}"


class Client:
    """A user with a token, and a store."""

    def __init__(self, name: Name, user_id: str, email: str, token: str, token_id: str) -> None:
        self.name, self.id, self.email, self.token, self.token_id = name, user_id, email, token, token_id

    @cached_property
    def store(self) -> Shop:
        return self.found()

    def found(self, **fields: str) -> Shop:
        # A slug is unique in a cell alone.
        answer = self.ask("POST", "/v1/stores", {"name": f"Club {self.id}", "currency": "EUR"}, **fields)
        assert answer.status == 201, answer
        return Shop(answer.body["id"], self.name.place(answer.body["id"]))

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> Answer:
        return self.name.ask(method, path, body, **(self.auth | fields))

    def pay(self, store: Shop, key: str = "") -> Answer:
        terms = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}
        return self.ask("POST", f"{store.path}/payments", terms, **{"Idempotency-Key": key or new_id().hex})


def ask(port: int, method: str, path: str, body: Any = None, **fields: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = None if body is None else json.dumps(body)
    headers = {"Content-Type": "application/json", **fields} if content else fields
    with closing(connection):
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        data = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        is_json = "json" in headers.get("content-type", "")
        return Answer(answer.status, headers, json.loads(data) if is_json and data else data)


def is_by_the_gateway(answer: Answer) -> bool:
    """Whether the request has reached no server."""
    return answer.status == 503 and isinstance(answer.body, dict) and answer.body["code"] == "gateway"


def raw(port: int, method: str, target: str, parts: list[bytes], fields: Mapping[str, str]) -> tuple[int, bytes]:
    """With a target as it stands, and a body in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.putrequest(method, target)
        for field, value in fields.items():
            connection.putheader(field, value)
        if parts:
            connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(parts or None, encode_chunked=bool(parts))
        answer = connection.getresponse()
        return answer.status, answer.read()


@contextmanager
def under_one_name(worker_id: str, target: str = "server:app") -> Iterator[Name]:
    """A directory and cells that are served by `target`."""
    cluster, template = os.environ["DUES_TESTS_CLUSTER"], os.environ["DUES_TESTS_TEMPLATE"]
    port, tls_port, directory_port, *ports = free_ports(3 + len(NAMES))
    url = f"http://127.0.0.1:{port}"
    with ExitStack() as until, ThreadPoolExecutor() as at_once:
        homes = ["", *NAMES]
        made = at_once.map(lambda name: Servers(cluster, template, f"{worker_id}_{target[:4]}_{name}"), homes)
        servers = dict(zip(homes, made, strict=True))
        for each in servers.values():
            until.callback(each.stop)

        def stack(name: str, at: int, **settings: str) -> Stack:
            made = Stack(name, servers[name], at, {"public_url": url, **settings}, until)
            until.callback(_dispose, made.app)
            return made

        at = dict(zip(NAMES, ports, strict=True))
        named = " ".join(f"{name}=http://127.0.0.1:{at[name]}" for name in NAMES)
        directory = stack("", directory_port, cells=named, cells_key=KEY, mail_events_secret=MAIL_SECRET)
        with directory.app.app_context():
            keys = {name: key_for(name) for name in NAMES}
        cells = {
            name: stack(name, at[name], cell=f"{name}=http://127.0.0.1:{directory_port}", cells_key=keys[name])
            for name in NAMES
        }
        found = Name(directory, cells, port)
        list(at_once.map(lambda stack: stack.serve(target), found.stacks))
        gateway = CellsGateway(directory.servers.home, port, tls_port, directory_port, at, {"DUES_TRY_FOR": "500ms"})
        until.enter_context(running(gateway))
        yield found


@pytest.fixture(scope="package")
def _name(worker_id: str) -> Iterator[Name]:
    with under_one_name(worker_id) as name:
        yield name


def _dispose(app: Flask) -> None:
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def name(_name: Name) -> Name:
    for stack in _name.stacks:
        stack.servers.clean()
    return _name
