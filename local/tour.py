"""`bin/tour`: what Dues is for, seen by a client of the server that `bin/run` has started.

Somebody signs up, buys a package and follows the status URL to its end; the mail with the receipt arrives; the store's
owner asks for a report, sees its progress and downloads it. Each step says what it does, and checks that it is so: what
differs ends the tour with one line and the status 1.
"""

import argparse
import csv
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

import urllib3

from dues.money import format_money

PROJECT = Path(__file__).resolve().parent.parent

# Longer than any step takes on a slow machine.
PATIENCE_S = 300.0
POLL_S = 0.15
# How wide a bar and a line of a file are drawn, and how many of those.
BAR, WIDTH, SHOWN_ROWS = 40, 110, 4

Document = dict[str, Any]


class Differs(Exception):
    """Something is not as the tour tells it; the message is the line that says what."""


def main(argv: Sequence[str]) -> int:
    """Returns: the exit status."""
    argparse.ArgumentParser(
        prog="bin/tour",
        description="Sign up, pay, follow the status URL, receive the mail and download a report, on the server that "
        "bin/run has started. DUES_HOME says which (./var).",
    ).parse_args(argv)
    home = Path(os.environ.get("DUES_HOME") or PROJECT / "var")
    # Not every terminal can show every letter.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        take_tour(home)
    except Differs as difference:
        print(f"\nbin/tour: {difference}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def take_tour(home: Path) -> None:
    demo = read_demo(home)
    store = f"/v1/stores/{demo['store_id']}"

    step("Somebody signs up, and logs in.")
    visitor, email = sign_up(demo["url"])

    if (home / "mail").is_dir():
        step("A link that is mailed proves the address. Receipts go to proved addresses alone.")
        prove_address(visitor, home / "mail", email)

    step("The store's packages are public. This one it shall be:")
    package = visitor.get(f"{store}/packages")["data"][0]
    say(f"{package['name']}, {money(package)}, {package['interval']}")

    step("A payment is accepted at once; the answer says where to follow it.")
    payment, job = pay(visitor, store, package)

    step("A worker charges it. The status URL, polled until it is done:")
    follow(visitor, job)
    payment = visitor.get(payment["links"]["self"])
    require(payment["status"] == "succeeded", f"the payment is {payment['status']} instead of succeeded")
    say(f"the payment is {payment['status']}")

    step("With the charge was committed that its confirmation must go out. That job has a status URL as well:")
    follow(visitor, payment["links"]["confirmation"])
    show_mail(home / "mail", email, payment)

    step("The store's owner asks for a report of the year's payments, as CSV.")
    owner = Client(demo["url"], demo["owner"]["token"])
    report = ask_for_report(owner, store)
    done = follow(owner, report["links"]["job"])
    report = owner.get(report["links"]["self"])
    require(done["result"]["href"] == report["links"]["file"], "the job's result is not the report's file")

    step("The file, downloaded:")
    show_report(owner, report, payment)

    step("What one publishes for followers reaches them with their next read, and nobody else.")
    publish(demo["url"], owner, visitor)

    step(f"That was the main job. All there is: {demo['url']}/docs")


def publish(url: str, owner: "Client", follower: "Client") -> None:
    """The owner posts something for followers; the visitor begins to follow them, and somebody else does not."""
    feeds = ("/v1/newsfeed?cursor=", "/v1/feed?cursor=")
    stranger, _ = sign_up(url)
    owner_id = owner.get("/v1/me")["id"]
    follower.put(f"/v1/me/following/{owner_id}")
    # Both feeds are read, and so kept, before there is anything new.
    for reader in (follower, stranger):
        for path in feeds:
            reader.get(path)
    post = owner.post("/v1/posts", {"body": "The wall is open again.", "privacy": "followers"}, 201)
    newest = follower.get(feeds[0])["data"][0]
    require(newest["id"] == post["id"], "the follower's newsfeed does not show the post")
    say(f"the follower's newsfeed shows it at once: {newest['body']}")
    for path in feeds:
        shown = [each["id"] for each in stranger.get(path)["data"]]
        require(post["id"] not in shown, f"{path} shows a stranger what is for followers")
    stranger.miss(post["links"]["self"])
    say("a stranger's feeds do not, and its address is a 404 to them")


def read_demo(home: Path) -> Document:
    """Where the server is, and who the demo's owner is, as bin/run has left it."""
    try:
        demo: Document = json.loads((home / "demo.json").read_text())
    except FileNotFoundError:
        raise Differs(f"there is no {home}/demo.json: start bin/run first, or set DUES_HOME as it was for it") from None
    except PermissionError:
        raise Differs(f"{home}/demo.json may only be read by the user who started bin/run") from None
    return demo


def sign_up(url: str) -> tuple["Client", str]:
    """A new user. Returns: a client with the user's token, and the user's mail address."""
    email, password = f"tour-{secrets.token_hex(4)}@dues.example", secrets.token_urlsafe(12)
    anybody = Client(url)
    anybody.post("/v1/users", {"email": email, "name": "Terry Tour", "password": password}, 201)
    token = anybody.post("/v1/tokens", {"email": email, "password": password}, 201)
    say(f"{email} has a token that ends on {token['expires_at'][:10]}")
    return Client(url, token["token"]), email


def prove_address(visitor: "Client", folder: Path, email: str) -> None:
    """Have a link mailed, and send back the code that is in it."""
    visitor.post("/v1/me/email-verifications", {}, 202)
    follow(visitor, visitor.headers["Location"])
    (mail,) = mails_to(email, folder)
    say(f"Subject: {mail['Subject']}")
    body = mail.get_body(("plain",))
    found = re.search(r"#verify-email=([\w-]+)", body.get_content() if body else "")
    require(found is not None, "the mail has no link")
    visitor.post("/v1/email-verifications/confirmations", {"code": found[1] if found else ""}, 204)
    require(visitor.get("/v1/me")["email_verified"], "the address is not proved")
    say("its code was sent back: the address is proved")


def pay(visitor: "Client", store: str, package: Document) -> tuple[Document, str]:
    """Buy `package`. Returns: the payment, and the URL of its job."""
    key = secrets.token_hex(8)
    order = {"package_id": package["id"], "payment_method": "sandbox_ok"}
    payment = visitor.post(f"{store}/payments", order, 202, key)
    job: str = visitor.headers["Location"]
    say(f"202 Accepted, Location: {job}")
    again = visitor.post(f"{store}/payments", order, 202, key)
    require(again["id"] == payment["id"], "the same Idempotency-Key made a second payment")
    say("sent again with the same Idempotency-Key it is the same payment")
    return payment, job


def show_mail(folder: Path, email: str, payment: Document) -> None:
    """The one confirmation in the folder of bin/run's mail server."""
    if not folder.is_dir():
        say("the mail went to the server that SMTP_URL names, so there is none to show here")
        return
    # The first one proved the address.
    mails = mails_to(email, folder)[1:]
    require(len(mails) == 1, f"{len(mails)} mails arrived instead of one")
    mail = mails[0]
    text, files = mail.get_body(("plain",)), list(mail.iter_attachments())
    require(text is not None, "the mail has no text")
    types = [file.get_content_type() for file in files]
    require(types == ["application/pdf"] * 2, "the mail has no invoice and receipt as PDF")
    say("The mail that arrived:")
    for name in ("From", "To", "Subject"):
        quote(f"{name}: {mail[name]}")
    for line in text.get_content().splitlines() if text else []:
        quote(line)
    for file in files:
        quote(f"[{file.get_filename()}, {len(file.get_payload(decode=True)):,} bytes]")
    require(money(payment) in mail["Subject"], "the mail's subject does not say the amount")


def mails_to(email: str, folder: Path) -> list[EmailMessage]:
    """Those that arrived there, the oldest first."""
    return [mail for mail in map(read_mail, sorted(folder.glob("*.eml"))) if mail["Delivered-To"] == email]


def read_mail(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)


def ask_for_report(owner: "Client", store: str) -> Document:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    wanted = {
        "kind": "payments",
        "format": "csv",
        "from": (tomorrow - timedelta(days=400)).isoformat(),
        "to": tomorrow.isoformat(),
    }
    return owner.post(f"{store}/reports", wanted, 202)


def show_report(owner: "Client", report: Document, payment: Document) -> None:
    """The report's file, read as it comes in: its first lines, and that it is whole."""
    rows = payments = found = 0
    with owner.download(report["links"]["file"]) as file:
        size = int(owner.headers["Content-Length"])
        say(f"{owner.headers['Content-Disposition']}, {size:,} bytes")
        for cells in csv.reader(file):
            if rows < SHOWN_ROWS:
                line = ",".join(cells)
                quote(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…")
            rows += 1
            payments += cells[1] == "payment"
            found += cells[0] == payment["id"]
    rows -= 1
    require(size == report["bytes"], f"the file has {size} bytes instead of {report['bytes']}")
    require(rows == report["rows"], f"the file has {rows} rows instead of {report['rows']}")
    require(found == 1, f"the payment just made is in the report {found} times")
    say(f"{payments:,} payments, the one just made among them, and {rows - payments:,} refunds")


def follow(client: "Client", link: str | None) -> Document:
    """Poll a status URL until the job is done, showing how it comes along. Returns: the last status document."""
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


class Client:
    """Whoever holds `token`, or nobody; `headers` are those of the last answer."""

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

    def put(self, path: str) -> None:
        self._request("PUT", path, 200)

    def miss(self, path: str) -> None:
        """What is not there, as far as this client may know."""
        self._request("GET", path, 404)

    def download(self, path: str) -> TextIOWrapper:
        """A file of text, to be read line by line and closed."""
        answer = self._request("GET", path, 200, preload_content=False)
        assert isinstance(answer, urllib3.HTTPResponse)
        answer.auto_close = False
        return TextIOWrapper(BufferedReader(answer), newline="")

    def _request(self, method: str, path: str, status: int, key: str = "", **options: Any) -> urllib3.BaseHTTPResponse:
        headers = {**self._headers, **({"Idempotency-Key": key} if key else {})}
        try:
            answer = self._http.request(method, self._url + path, headers=headers, **options)
        except urllib3.exceptions.HTTPError:
            raise Differs(f"nothing answers at {self._url}: is bin/run still running?") from None
        self.headers = answer.headers
        if answer.status != status:
            raise Differs(f"{method} {path} answered {answer.status}: {answer.data.decode()[:300]}")
        return answer


def require(holds: bool, difference: str) -> None:
    """Raises: Differs where what the tour tells does not hold."""
    if not holds:
        raise Differs(difference)


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
    """Something to draw a line that changes with: in place on a terminal, else one below the other."""
    in_place = sys.stdout.isatty()

    def draw(line: str) -> None:
        print(f"\r\x1b[K  {line}" if in_place else f"  {line}", end="" if in_place else "\n", flush=True)

    try:
        yield draw
    finally:
        if in_place:
            print(flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
