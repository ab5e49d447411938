"""The step of the tour that mails a post: a preview of the mail, the mailing and its progress, the mail that arrives at
the mail server of `bin/run`, and the link to unsubscribe."""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from local.tour_client import Client, Document, follow, quote, require, say, step
from local.tour_mails import mails_to, show_text

_WORDS = {
    "title": "The wall is open again",
    "body": "We have set thirty new routes.\n\nMembers climb first: Saturday at ten.",
    "privacy": "public",
}


def show_mailing(owner: Client, anybody: Client, store_id: str, reader: str, folder: Path) -> None:
    """`reader` is the address of a follower of the owner; `folder` is where mails arrive."""
    step("A store's post can go out by mail: to its members, and to those who follow who wrote it. First a look at it.")
    post = owner.post("/v1/posts", {**_WORDS, "store_id": store_id}, 201)
    path = f"/v1/stores/{store_id}/posts/{post['id']}"
    preview = owner.get(f"{path}/mailing-preview")
    say(f"From {preview['from_name']}: {preview['subject']}")

    step("It is mailed. The status URL counts the members:")
    mailing = _mail(owner, path)
    mails = [mail for mail in mails_to(reader, folder) if mail["Subject"] == _WORDS["title"]]
    require(len(mails) == 1, f"{len(mails)} mails of the post arrived instead of one")
    (mail,) = mails
    say("What arrived for one of them:")
    for name in ("From", "To", "Subject", "List-Unsubscribe-Post"):
        quote(f"{name}: {mail[name]}")
    show_text(mail)

    step("With the button that mail programs make of that, they get no more. Nobody gets a post twice, whoever asks.")
    link = urlsplit(str(mail["List-Unsubscribe"]).strip("<>"))
    anybody.submit_form(f"{link.path}?{link.query}", "List-Unsubscribe=One-Click")
    mailing = owner.get(mailing["links"]["self"])
    require(mailing["unsubscribed"] == 1, "the mailing does not count who has unsubscribed")
    again = _mail(owner, path)
    require(again["recipients"] == 0, f"{again['recipients']} people were to get the post twice")


def _mail(owner: Client, path: str) -> Document:
    """Have a post mailed. Returns: the mailing once it has ended."""
    mailing = owner.post(f"{path}/mailings", {}, 202, secrets.token_hex(8))
    follow(owner, owner.headers["Location"])
    mailing = owner.get(mailing["links"]["self"])
    require(mailing["sent"] == mailing["recipients"], f"{mailing['sent']} of {mailing['recipients']} were sent")
    say(f"{mailing['sent']} were sent, of {mailing['recipients']}")
    return mailing
