"""A post as a mail: its content and its sender."""

import secrets
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from jinja2.utils import urlize
from markupsafe import Markup

from dues.errors import NotFound
from dues.mail.message import Message, Templates
from dues.mail.wording import Words
from dues.mailings.unsubscribing import Reader, unsubscribe_url, write_token
from dues.postgres import fetch_row
from dues.text import shows_something

_templates = Templates(Path(__file__).parent / "templates")

_LONGEST_SUBJECT = 100
# A placeholder for each reader's token in what is rendered once. It is random, so that no post can contain it.
_ANY_TOKEN = secrets.token_urlsafe(64)

_STORE = "select name, contact_email from stores where id = %(store_id)s"
_POST = "select title, body from posts where id = %(post_id)s and store_id = %(store_id)s"


@dataclass(frozen=True)
class Letter:
    """What all readers get. `shop` is the store's name; `reply_to` is its address for replies, or empty."""

    store_id: UUID
    subject: str
    body: str
    shop: str
    reply_to: str


class _Line(Words):
    """A line of a post. In HTML, web addresses in it become links."""

    def __html__(self) -> str:
        return Markup("<bdi>{}</bdi>").format(Markup(urlize(self._line, rel="noopener noreferrer")))  # noqa: S704


def subject_of(title: str | None, body: str) -> str:
    """The title, or else the beginning of the text."""
    if title:
        return title
    first = next(filter(shows_something, body.splitlines())).strip()
    return first if len(first) <= _LONGEST_SUBJECT else first[: _LONGEST_SUBJECT - 1].rstrip() + "…"


def letter_of(store_id: UUID, subject: str, body: str) -> Letter:
    """A letter with this subject and body from a store. Raises: NotFound."""
    row = fetch_row(_STORE, {"store_id": store_id})
    if row is None:
        raise NotFound("there is no such store")
    return Letter(store_id, subject, body, row[0], row[1] or "")


def letter_of_post(store_id: UUID, post_id: UUID) -> Letter:
    """A store's post as it is now; it may be a draft. Raises: NotFound."""
    row = fetch_row(_POST, {"store_id": store_id, "post_id": post_id})
    if row is None:
        raise NotFound("there is no such post")
    return letter_of(store_id, subject_of(*row), row[1])


def message_to(letter: Letter, user_id: UUID, name: str, mailing_id: UUID) -> Message:
    """The mail to one reader, whose address is verified. If they unsubscribe, `mailing_id` is the mailing that counts
    it."""
    token = write_token(Reader(letter.store_id, user_id, mailing_id))
    written = _written(letter, unsubscribe_url(_ANY_TOKEN))
    return replace(
        written,
        to_name=name,
        unsubscribe_url=unsubscribe_url(token),
        text=written.text.replace(_ANY_TOKEN, token),
        html=written.html.replace(_ANY_TOKEN, token),
    )


@lru_cache(maxsize=16)
def _written(letter: Letter, url: str) -> Message:
    """The mail for all readers, with a placeholder in its link. Kept, because rendering a long post takes a tenth of a
    second."""
    return _templates.message(
        "post",
        subject=letter.subject,
        from_name=letter.shop,
        reply_to=letter.reply_to,
        unsubscribe_url=url,
        shop=Words(letter.shop),
        title=Words(letter.subject),
        paragraphs=_paragraphs(letter.body),
        url=url,
    )


def _paragraphs(body: str) -> list[list[_Line]]:
    """The lines of a post, grouped into paragraphs, which blank lines separate."""
    found: list[list[_Line]] = [[]]
    for text in body.splitlines():
        if text.strip():
            found[-1].append(_Line(text))
        elif found[-1]:
            found.append([])
    return [lines for lines in found if lines]
