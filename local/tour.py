"""`bin/tour`: what Dues is for, shown by a client of the server that `bin/run` has started.

A visitor signs up, buys a package and follows the status URL to its end; the mail with the receipt arrives; the store's
owner requests a report, sees its progress and downloads it; a post reaches the followers of its author, and is sent by
mail; and a membership is renewed, declined and finally paid while the clock of a test store is moved. Each step prints
what it does, and checks the result: any difference ends the tour with one line and the status 1.
"""

import argparse
import csv
import os
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path

from local import folders
from local.tour_client import Client, Document, Mismatch, follow, money, quote, require, say, step
from local.tour_mailing import show_mailing
from local.tour_mails import mails_to, show_text
from local.tour_membership import show_membership

PROJECT = Path(__file__).resolve().parent.parent

# How wide the lines of a file are shown, and how many of them.
WIDTH, SHOWN_ROWS = 110, 4


def main(argv: Sequence[str]) -> int:
    """Returns: the exit status."""
    argparse.ArgumentParser(
        prog="bin/tour",
        description="Sign up, pay, follow the status URL, receive the mail, download a report and keep a membership, "
        "on the server that bin/run has started. DUES_HOME says which (./var).",
    ).parse_args(argv)
    home = Path(os.environ.get("DUES_HOME") or PROJECT / "var")
    # Not every terminal can show every character.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        take_tour(home)
    except Mismatch as difference:
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

    if (home / "mail").is_dir():
        show_mailing(owner, Client(demo["url"]), demo["store_id"], email, home / "mail")

    show_membership(owner, visitor, home)

    step(f"That was the main job. All there is: {demo['url']}/docs")


def publish(url: str, owner: Client, follower: Client) -> None:
    """The owner posts something for followers. The visitor follows them, and another user does not."""
    feeds = ("/v1/newsfeed?cursor=", "/v1/feed?cursor=")
    stranger, _ = sign_up(url)
    owner_id = owner.get("/v1/me")["id"]
    follower.put(f"/v1/me/following/{owner_id}")
    # Both feeds are read, and so cached, before there is anything new.
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
    stranger.expect_not_found(post["links"]["self"])
    say("a stranger's feeds do not, and its address is a 404 to them")


def read_demo(home: Path) -> Document:
    """The server's address and the demo owner's login, as written by bin/run."""
    try:
        demo = folders.read_document(home / "demo.json")
    except PermissionError:
        raise Mismatch(f"{home}/demo.json may only be read by the user who started bin/run") from None
    if not demo:
        raise Mismatch(
            f"{home}/demo.json is not there, or not whole: start bin/run first, or set DUES_HOME as it was for it"
        )
    return demo


def sign_up(url: str) -> tuple[Client, str]:
    """A new user. Returns: a client with the user's token, and the user's mail address."""
    email, password = f"tour-{secrets.token_hex(4)}@dues.example", secrets.token_urlsafe(12)
    anybody = Client(url)
    anybody.post("/v1/users", {"email": email, "name": "Terry Tour", "password": password}, 201)
    token = anybody.post("/v1/tokens", {"email": email, "password": password}, 201)
    say(f"{email} has a token that ends on {token['expires_at'][:10]}")
    return Client(url, token["token"]), email


def prove_address(visitor: Client, folder: Path, email: str) -> None:
    """Request a mail with a link, and send back the code that it contains."""
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


def pay(visitor: Client, store: str, package: Document) -> tuple[Document, str]:
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
    """Show the only confirmation in the folder of bin/run's mail server."""
    if not folder.is_dir():
        say("the mail went to the server that SMTP_URL names, so there is none to show here")
        return
    # The first mail was the one to verify the address.
    mails = mails_to(email, folder)[1:]
    require(len(mails) == 1, f"{len(mails)} mails arrived instead of one")
    mail = mails[0]
    files = list(mail.iter_attachments())
    types = [file.get_content_type() for file in files]
    require(types == ["application/pdf"] * 2, "the mail has no invoice and receipt as PDF")
    say("The mail that arrived:")
    for name in ("From", "To", "Subject"):
        quote(f"{name}: {mail[name]}")
    show_text(mail)
    for file in files:
        quote(f"[{file.get_filename()}, {len(file.get_payload(decode=True)):,} bytes]")
    require(money(payment) in mail["Subject"], "the mail's subject does not say the amount")


def ask_for_report(owner: Client, store: str) -> Document:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    wanted = {
        "kind": "payments",
        "format": "csv",
        "from": (tomorrow - timedelta(days=400)).isoformat(),
        "to": tomorrow.isoformat(),
    }
    return owner.post(f"{store}/reports", wanted, 202)


def show_report(owner: Client, report: Document, payment: Document) -> None:
    """Read the report's file while it arrives: show its first lines, and check that it is complete."""
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
