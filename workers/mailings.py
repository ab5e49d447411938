"""Mailing posts; what that means is in dues/mailings.

A mailing is one job, which sends a mail after the other through the ledger, each by a key of its own. Killed anywhere,
it goes on with those who are left; what a mail of a dead worker came to is found out as it is for every mail.
"""

import logging
import time
from uuid import UUID

from dues.accounts.models import User
from dues.failpoints import failpoint
from dues.jobs import PermanentFailure, Retry, Run, kinds
from dues.jobs.turns import count_turns
from dues.mail import ledger
from dues.mail.service import Draft, MailDeferred, Outcome, record, send_draft
from dues.mailings import provider_events, recipients, service
from dues.mailings.letter import Letter, letter_of, letter_of_post, message_to
from dues.mailings.models import Mailing
from dues.mailings.recipients import MOST_TRIES, Fate, Recipient
from dues.mailings.unsubscribing import NO_MAILING, Reader, pass_on
from dues.postgres import db, transaction
from workers.interrupts import interrupts
from workers.job import job
from workers.mail import keeper, send_mail
from workers.retry_db import patiently

log = logging.getLogger("dues.mailings")

# So many are looked at together: whether they may get it is asked this shortly before.
_BATCH = 20
# How long a mailing goes on while other jobs wait, and how long at all, since an attempt at a job has its time.
_TURN_S, _LONGEST_S = 1.0, 60.0
# Where the mail server takes none of so many mails in a row, the reason is not the readers, and the others wait too.
_IN_A_ROW = 3
# How soon domains that take no more for now are asked again.
_FULL_S = 0.5
_FATES: dict[str, Fate] = {"sent": "sent", "rejected": "failed", "unknown": "unknown"}


@job(kinds.POST_MAILING)
def mail_post(run: Run, store_id: str, mailing_id: str) -> None:
    with transaction():
        mailing = service.start_mailing(UUID(store_id), UUID(mailing_id))
        letter = letter_of(mailing.store_id, mailing.subject, mailing.body)
    turn = _Turn(run, mailing, letter)
    turn.go_on()
    if (left_s := recipients.wait_s(mailing)) is not None:
        raise Retry(max(left_s, turn.pause_s), "others have their turn", charged=False, anew=turn.has_sent)
    href = f"/v1/stores/{store_id}/posts/{mailing.post_id}/mailings/{mailing_id}"
    with run.completion({"href": href, "type": "application/json"}):
        service.finish_mailing(mailing.store_id, mailing.id)


@job(kinds.POST_MAILING_TEST)
def mail_test(run: Run, store_id: str, post_id: str, user_id: str) -> None:
    """To the one who has asked for it: at their own address, if that is still verified."""
    with transaction():
        user = db.session.get_one(User, UUID(user_id))
        if user.deleted_at or user.email_verified_at is None:
            raise PermanentFailure("the address is not verified any more")
        letter = letter_of_post(UUID(store_id), UUID(post_id))
        message = message_to(letter, user.id, user.name, NO_MAILING)
    send_mail(run, Draft(f"mailing-test:{run.job_id}", user.email, message, secret=True))


@job(kinds.UNSUBSCRIBE_ELSEWHERE)
def unsubscribe_elsewhere(run: Run, store_id: str, user_id: str, mailing_id: str) -> None:
    pass_on(Reader(UUID(store_id), UUID(user_id), UUID(mailing_id)))


@job(kinds.REPORT_ELSEWHERE)
def report_elsewhere(run: Run, address: str, kind: provider_events.Kind, email_ids: list[str], passed_on: int) -> None:
    provider_events.pass_on(address, kind, email_ids, passed_on)


class _Turn:
    """What one attempt gets done. `pause_s`: how long the next is to wait at least. `has_sent`: a mail was taken."""

    def __init__(self, run: Run, mailing: Mailing, letter: Letter) -> None:
        self._run, self._mailing, self._letter = run, mailing, letter
        self._began_at = self._looked_at = time.monotonic()
        self._not_taken_in_a_row = 0
        self.has_sent = False
        self._full: set[str] = set()

    @property
    def pause_s(self) -> float:
        return _FULL_S if self._full else 0.0

    def go_on(self) -> None:
        """Mail to those whose turn it is, until nobody is left or it is somebody else's turn.

        Raises: Retry where the mail server is away; Canceled; LeaseLost.
        """
        while found := recipients.next_recipients(self._mailing, _BATCH, self._full):
            if gone := [one.user_id for one in found if not one.may_get]:
                self._settle(gone, "skipped")
            for one in found:
                if one.may_get and one.domain not in self._full:
                    self._mail(one)
                # Asked after a mail, so that each turn gets something done.
                if self._is_over():
                    return

    def _is_over(self) -> bool:
        moment = time.monotonic()
        if interrupts.stopping or moment > self._began_at + _LONGEST_S:
            return True
        if moment < self._looked_at + _TURN_S:
            return False
        self._looked_at = moment
        return count_turns(kinds.POST_MAILING.queue, 1) > 0

    def _mail(self, to: Recipient) -> None:
        if not recipients.take_turn(to.domain):
            self._full.add(to.domain)
            return
        message = message_to(self._letter, to.user_id, to.name, self._mailing.id)
        draft = Draft(recipients.dedupe_key(self._mailing, to.user_id), to.email, message, secret=True)
        try:
            outcome = send_draft(draft, fence=self._run.lease.token, may_commit=keeper(self._run))
        except MailDeferred as later:
            self._put_off(to, draft, later)
        except PermanentFailure as refused:
            log.warning("mailing %s: no mail to user %s: %s", self._mailing.id, to.user_id, refused)
            self._settle([to.user_id], "failed")
        else:
            self._note(to, outcome)
            failpoint("mailing.after_mail")

    def _note(self, to: Recipient, outcome: Outcome) -> None:
        """Raises: MailDeferred where the mail server refuses one mail after the other."""
        self._settle([to.user_id], _FATES[outcome.state], outcome)
        if outcome.state == "rejected":
            self._was_not_taken(MailDeferred(f"the mail server refuses one mail after the other: {outcome.reply}"))
        else:
            self._not_taken_in_a_row = 0
            self.has_sent = True

    def _put_off(self, to: Recipient, draft: Draft, later: MailDeferred) -> None:
        """A mail does not go out just now. Raises: MailDeferred where none does."""
        is_last_try = later.charged and to.tries + 1 >= MOST_TRIES
        with transaction():
            # The next try composes it anew: its reader may have another address by then.
            ledger.withdraw([draft.dedupe_key])
            if later.charged and not is_last_try:
                recipients.put_off(self._mailing, to, later.after_s)
        if is_last_try:
            self._settle([to.user_id], "failed")
        if not later.charged:
            raise later
        self._was_not_taken(later)

    def _was_not_taken(self, later: MailDeferred) -> None:
        """Raises: MailDeferred where that is so of several mails in a row. The job's attempts count since the last
        mail that was taken: a server that takes few at a time is no reason to give up."""
        self._not_taken_in_a_row += 1
        if self._not_taken_in_a_row >= _IN_A_ROW:
            raise MailDeferred(str(later), later.after_s, anew=self.has_sent) from later

    def _settle(self, user_ids: list[UUID], fate: Fate, outcome: Outcome | None = None) -> None:
        """Write down what became of a mail with what it means for the mailing."""

        def write() -> int:
            with transaction():
                if outcome:
                    record(outcome)
                if outcome and outcome.state == "rejected":
                    recipients.note_refusal(self._mailing, user_ids[0], outcome.mail.recipient, outcome.reply or "")
                return recipients.settle(self._mailing, user_ids, fate)

        # That the mail server has a mail is known to this process alone.
        count = patiently(write, though_stopping=fate == "sent")
        self._run.progress(count, self._mailing.recipients, "members")
