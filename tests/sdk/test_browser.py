"""The TypeScript client in a real browser: a page of another origin than Dues, where CORS_ORIGINS names it."""

import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dues.ids import new_id
from tests.sdk.conftest import Town
from tests.sdk.test_typescript_package import built
from tests.servers import Servers
from tests.webserver import WebServer

__all__ = ["built"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.sdk,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm here"),
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here: the client was NOT tried in a browser"),
]

# Signs in, pays and waits, follows a job by its events, makes changes while the server is away, and syncs.
PAGE = """<!doctype html><title>shop</title><script type="module">
const told = {};
const tell = (path) => fetch(path, { method: "POST", body: JSON.stringify(told) });
try {
  const { Dues, OfflineQueue, indexedDbStorage, isOffline } = await import("/dist/index.js");
  const settings = await (await fetch("/settings")).json();
  const { url, email, password, storeId } = settings;
  const dues = await new Dues({ url, retries: 0 }).logIn(email, password);

  const payment = { amount: 1500, currency: "EUR", payment_method: "sandbox_ok" };
  const started = await dues.payments.create(storeId, payment, { wait: 20 });
  told.paid = started.resource.status;
  told.requestId = Boolean(dues.last.headers.get("x-request-id"));

  const slow = await dues.payments.create(storeId, payment);
  told.events = [];
  for await (const job of dues.jobs.follow(slow.jobPath.split("/").pop())) told.events.push(job.status);

  const outcomes = [];
  const onOutcome = (outcome) => void outcomes.push(outcome.status);
  const queue = new OfflineQueue(dues, indexedDbStorage(), { onOutcome });
  const rows = new Map();
  let cursor = null;
  // As docs/programs.md says what a client does with an answer.
  async function sync(ops = []) {
    const statuses = [];
    for await (const page of dues.sync.pages(cursor, { ops })) {
      for (const [key, row] of rows) if (page.reset.includes(row.type)) rows.delete(key);
      for (const change of page.changes) {
        const key = `${change.type} ${change.id}`;
        if (change.version > (rows.get(key)?.version ?? 0)) rows.set(key, change);
      }
      statuses.push(...page.results.map((result) => result.status));
      cursor = page.cursor;
    }
    return statuses;
  }
  const shown = (type) => [...rows.values()].filter((row) => row.type === type && row.op === "put");
  await sync();
  told.payments = shown("payment").length;

  await tell("/leave");
  const now = () => new Date().toISOString();
  const address = { id: settings.addressId, line1: "1 High Street", city: "Leeds", country: "GB" };
  const made = { id: crypto.randomUUID(), at: now(), method: "POST", path: "/v1/me/addresses", body: address };
  const path = `/v1/me/addresses/${address.id}`;
  const moved = { id: crypto.randomUUID(), at: now(), method: "PATCH", path, body: { city: "York" }, after: [made.id] };
  const ops = [made, moved];
  const post = { body: "Written on a train", privacy: "public" };
  const { id } = await queue.add({ method: "POST", path: "/v1/posts", body: post });
  await queue.add({ method: "POST", path: `/v1/posts/$${id}.id/comments`, body: { body: "So is this" } });
  try {
    await queue.flush();
  } catch (error) {
    told.offline = isOffline(error);
  }
  await sync(ops).catch((error) => (told.syncedOffline = !isOffline(error)));
  await tell("/return");
  told.synced = await sync(ops);
  told.cities = shown("address").map((row) => row.data.city);
  const waiting = dues.sync.wait(cursor, { wait: 20 });
  // What a page that was closed has left is found by the next one.
  const next = new OfflineQueue(dues, indexedDbStorage(), { onOutcome });
  told.pending = (await next.pending()).length;
  await next.flush();
  Object.assign(told, { outcomes, left: (await next.pending()).length });
  told.woken = (await waiting).changes.some((change) => ["post", "comment"].includes(change.type));
} catch (error) {
  told.error = String(error);
}
await tell("/done");
</script>"""

Visit = Callable[[WebServer], dict[str, Any]]


class Shop(http.server.ThreadingHTTPServer):
    """Serves the page and the client, and does what the page asks for: the API leaves, and returns."""

    daemon_threads = True

    def __init__(self, dist: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.dist, self.settings = dist, dict[str, str]()
        self.api: WebServer | None = None
        self.told: dict[str, Any] = {}
        self.is_done = threading.Event()

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        if self.path == "/settings":
            self._send(json.dumps(self.server.settings).encode(), "application/json")
        elif self.path.startswith("/dist/"):
            self._send((self.server.dist / Path(self.path).name).read_bytes(), "text/javascript")
        else:
            self._send(PAGE.encode(), "text/html")

    def do_POST(self) -> None:
        self.server.told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.server.api
        if self.path == "/leave":
            self.server.api.__exit__(None, None, None)
        elif self.path == "/return":
            self.server.api.__enter__()
        self._send(b"", "text/plain")
        if self.path == "/done":
            self.server.is_done.set()

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def shop(built: Path) -> Iterator[Shop]:
    with Shop(built / "dist") as shop:
        thread = threading.Thread(target=shop.serve_forever)
        thread.start()
        yield shop
        shop.shutdown()
        thread.join()


@pytest.fixture
def visit(shop: Shop, town: Town, tmp_path: Path) -> Visit:
    def visit(api: WebServer) -> dict[str, Any]:
        """Have a browser open the shop. Returns: what its page has told in the end."""
        assert CHROMIUM
        shop.api = api
        shop.settings = {"url": api.url, "email": town.customer.email, "password": town.password,
                         "storeId": town.store_id, "addressId": str(new_id())}  # fmt: skip
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        argv = [CHROMIUM, *flags, f"--user-data-dir={tmp_path / 'profile'}", shop.origin]
        with open(tmp_path / "browser.log", "wb") as log:
            browser = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            assert shop.is_done.wait(180), f"the page is not done: {shop.told}"
        finally:
            browser.terminate()
            browser.wait(30)
        return shop.told

    return visit


def test_a_page_signs_in_pays_follows_and_makes_up_for_being_offline(
    servers: Servers, shop: Shop, visit: Visit, town: Town
) -> None:
    with WebServer(servers, threads=4, CORS_ORIGINS=shop.origin) as api:
        told = visit(api)
    events = told.pop("events")
    assert events[-1] == "succeeded"
    assert told == {
        "paid": "succeeded",
        "requestId": True,
        "offline": True,
        "pending": 2,
        "outcomes": [201, 201],
        "left": 0,
        "payments": 2,
        "syncedOffline": False,
        "synced": [201, 200],
        "cities": ["York"],
        "woken": True,
    }
    values = {"id": town.customer.id}
    assert town.make.value("select count(*) from payments where user_id = %(id)s", values) == 2
    assert town.make.value("select count(*) from addresses where user_id = %(id)s", values) == 1
    assert town.make.value("select count(*) from comments where author_id = %(id)s", values) == 1


def test_without_cors_origins_it_cannot(servers: Servers, shop: Shop, visit: Visit) -> None:
    with WebServer(servers, threads=4) as api:
        told = visit(api)
    assert told.keys() == {"error"}
    assert "NetworkError" in told["error"]
