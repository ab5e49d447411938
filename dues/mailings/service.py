"""Requests for mailings, and the only place where a mailing's status changes. Each function is part of its caller's
transaction.

    pending -> running -> succeeded | failed | canceled

The recipients are decided once, when a mailing begins. A post is mailed to a reader once, however often a mailing is
requested: another mailing of the same post goes to those who have not got it yet.
"""

import logging
from typing import Any
from uuid import UUID

from msgspec import Struct

from dues.accounts.attempts import Quota, count
from dues.accounts.models import User
from dues.errors import Conflict, InvalidTransition, NotFound
from dues.ids import new_id
from dues.jobs import kinds
from dues.jobs.on_failure import Ending, when_ended
from dues.jobs.outbox import enqueue
from dues.mailings import recipients
from dues.mailings.letter import subject_of
from dues.mailings.models import Mailing
from dues.postgres import database_now, db, fetch_row
from dues.social.models import Post

log = logging.getLogger("dues.mailings")

# The states from which each state can be reached. A failed mailing can be retried by an operator.
SOURCES = {
    "running": ("pending", "running", "failed"),
    "succeeded": ("running",),
    "failed": ("pending", "running"),
    "canceled": ("pending", "running"),
}
# How many test mails one user may request.
_TESTS = Quota("mailing-tests", 20, 3600, "test mails")

_UNFINISHED = """
    select 1 from mailings
    where store_id = %(store_id)s and post_id = %(post_id)s and status in ('pending', 'running')
"""


class MailingTest(Struct):
    """A test mail that will be sent to `recipient`, with this `subject`."""

    recipient: str
    subject: str
    links: dict[str, str]


def request_mailing(post: Post, requested_by: UUID) -> Mailing:
    """Create a pending mailing of a locked post, and the job that will send it.

    Raises: Conflict if the post is not published, is private, or is being mailed already.
    """
    assert post.store_id
    if post.status != "published":
        raise Conflict("the post is not published", code="not_published")
    if post.privacy == "private":
        raise Conflict("the post is private: there is nobody to mail it to", code="no_recipients")
    if fetch_row(_UNFINISHED, {"store_id": post.store_id, "post_id": post.id}):
        raise Conflict("a mailing of this post is not over: wait for it, or cancel it", code="too_many_unfinished")
    mailing = Mailing(
        store_id=post.store_id,
        id=new_id(),
        post_id=post.id,
        requested_by=requested_by,
        subject=subject_of(post.title, post.body),
        body=post.body,
        status="pending",
    )
    mailing.job_id = enqueue(
        kinds.POST_MAILING,
        {"store_id": str(mailing.store_id), "mailing_id": str(mailing.id)},
        owner_id=requested_by,
        store_id=mailing.store_id,
        # Jobs that somebody waits for go first.
        priority=200,
    )
    db.session.add(mailing)
    db.session.flush()
    return mailing


def request_test(post: Post, requested_by: UUID) -> tuple[UUID, MailingTest]:
    """Mail a post to the requesting user only. It need not be published.

    Returns: the job's id, and a description of the test. Raises: Conflict if their address is not verified;
    TooManyRequests.
    """
    user = db.session.get_one(User, requested_by)
    if user.email_verified_at is None:
        raise Conflict("confirm your own e-mail address first: the test goes there", code="email_not_verified")
    count(_TESTS, str(requested_by))
    args = {"store_id": str(post.store_id), "post_id": str(post.id), "user_id": str(requested_by)}
    job_id = enqueue(kinds.POST_MAILING_TEST, args, owner_id=requested_by, store_id=post.store_id)
    links = {"post": f"/v1/posts/{post.id}", "job": f"/v1/jobs/{job_id}"}
    return job_id, MailingTest(user.email, subject_of(post.title, post.body), links)


def start_mailing(store_id: UUID, mailing_id: UUID) -> Mailing:
    """Begin a mailing, or continue it after a worker has died; the recipients are decided the first time. Raises:
    NotFound; InvalidTransition for a mailing that has ended."""
    mailing = _get(store_id, mailing_id)
    if mailing.started_at is None:
        mailing.recipients = recipients.choose(mailing)
        mailing.started_at = database_now()
    if mailing.status != "running":
        _move(mailing, "running", finished_at=None)
    # From now on its numbers change in the database, row by row; the returned object does not follow.
    db.session.flush()
    db.session.expunge(mailing)
    return mailing


def finish_mailing(store_id: UUID, mailing_id: UUID) -> None:
    """End a mailing that has no pending recipients left. Raises: InvalidTransition."""
    _move(_get(store_id, mailing_id), "succeeded", finished_at=database_now())


@when_ended(kinds.POST_MAILING)
def end_mailing(ending: Ending) -> None:
    """The job was canceled, or has failed permanently: readers who have not got the post can get it by another mailing
    only."""
    mailing = _get(UUID(ending.args["store_id"]), UUID(ending.args["mailing_id"]))
    _move(mailing, ending.status, finished_at=database_now())


def _get(store_id: UUID, mailing_id: UUID) -> Mailing:
    mailing = db.session.get(Mailing, (store_id, mailing_id), with_for_update=True, populate_existing=True)
    if mailing is None:
        raise NotFound("there is no such mailing")
    return mailing


def _move(mailing: Mailing, status: str, **values: Any) -> None:
    if mailing.status not in SOURCES[status]:
        raise InvalidTransition(f"a mailing that is {mailing.status} cannot become {status}")
    log.info("mailing %s: %s -> %s", mailing.id, mailing.status, status)
    mailing.status = status
    for name, value in values.items():
        setattr(mailing, name, value)
