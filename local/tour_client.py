"""Tools for the steps of the tour (tour.py): a client of the API, and functions that print."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from typing import Any

import urllib3

from dues.money import format_money

# Longer than any step takes on a slow machine.
PATIENCE_S = 300.0
POLL_S = 0.15
# The width of a progress bar, in characters.
BAR = 40

Document = dict[str, Any]


class Mismatch(Exception):
    """Something is not as the tour expects. The message is the line that says what."""


class Client:
    """A client with `token`, or an anonymous one. `headers` are those of the last answer."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = urllib3.PoolManager(retries=False, timeout=30.0)
        self.headers: Any = {}

    def get(self, path: str) -> Document:
        document: Document = self._request("GET", path, 200).json()
        return document

    def post(self, path: str, body: Document, status: int, key: str = "") -> Document:
        answer = self._request("POST", path, status, key, json=body)
        document: Document = answer.json() if answer.data else {}
        return document

    def put(self, path: str, body: Document | None = None, status: int = 200) -> Document:
        sent: dict[str, Any] = {"json": body} if body else {}
        answer = self._request("PUT", path, status, **sent)
        document: Document = answer.json() if answer.data else {}
        return document

    def submit_form(self, path: str, form: str) -> None:
        """Press a button of a web page, which sends `form`."""
        self._request("POST", path, 200, headers={"Content-Type": "application/x-www-form-urlencoded"}, body=form)

    def expect_not_found(self, path: str) -> None:
        """Check that this client gets 404."""
        self._request("GET", path, 404)

    def fetch(self, path: str) -> bytes:
        """A complete file."""
        return self._request("GET", path, 200).data

    def download(self, path: str) -> TextIOWrapper:
        """A text file, to be read line by line and closed."""
        answer = self._request("GET", path, 200, preload_content=False)
        assert isinstance(answer, urllib3.HTTPResponse)
        answer.auto_close = False
        return TextIOWrapper(BufferedReader(answer), newline="")

    def _request(self, method: str, path: str, status: int, key: str = "", **options: Any) -> urllib3.BaseHTTPResponse:
        headers = {**self._headers, **({"Idempotency-Key": key} if key else {}), **options.pop("headers", {})}
        try:
            answer = self._http.request(method, self._url + path, headers=headers, **options)
        except urllib3.exceptions.HTTPError:
            raise Mismatch(f"nothing answers at {self._url}: is bin/run still running?") from None
        self.headers = answer.headers
        if answer.status != status:
            raise Mismatch(f"{method} {path} answered {answer.status}: {answer.data.decode()[:300]}")
        return answer


def follow(client: Client, link: str | None) -> Document:
    """Poll a status URL until the job is done, showing its progress. Returns: the last status document."""
    require(link is not None, "there is no status URL to follow")
    shown, percent, until = "", 0.0, time.monotonic() + PATIENCE_S
    with drawing() as draw:
        while True:
            job = client.get(str(link))
            progress = job["progress"]
            if progress:
                require(progress["percent"] >= percent, "the progress went back")
                percent = progress["percent"]
            line = describe(job)
            if line != shown:
                draw(line)
            shown = line
            if job["done"]:
                break
            require(time.monotonic() < until, f"{link} is still {job['status']} after {PATIENCE_S:g} s")
            time.sleep(POLL_S)
    require(job["status"] == "succeeded", f"{link} is {job['status']}: {job['error']}")
    require(not job["progress"] or percent == 100, f"{link} succeeded at {percent} %")
    return job


def describe(job: Document) -> str:
    progress = job["progress"]
    if not progress:
        return f"{job['kind']}  {job['status']}"
    filled = int(BAR * progress["percent"] / 100)
    bar = "█" * filled + "░" * (BAR - filled)
    counts = f"{progress['completed']:,} of {progress['total']:,} {progress['unit']}"
    return f"{job['kind']}  {job['status']:<9}  {bar} {progress['percent']:5.1f} %  {counts}"


def require(holds: bool, difference: str) -> None:
    """Raises: Mismatch if what the tour expects does not hold."""
    if not holds:
        raise Mismatch(difference)


def money(row: Document) -> str:
    return format_money(row["amount"], row["currency"])


def step(text: str) -> None:
    print(f"\n» {text}", flush=True)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


def quote(text: str) -> None:
    print(f"  │ {text}".rstrip(), flush=True)


@contextmanager
def drawing() -> Iterator[Any]:
    """A function that shows a changing line: in place on a terminal, otherwise one below the other."""
    in_place = sys.stdout.isatty()

    def draw(line: str) -> None:
        print(f"\r\x1b[K  {line}" if in_place else f"  {line}", end="" if in_place else "\n", flush=True)

    try:
        yield draw
    finally:
        if in_place:
            print(flush=True)
