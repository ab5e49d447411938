"""Mail for jobs: queue it with the data it belongs to, send it, and record what became of it with the job's end.

    with transaction():
        email_id = queue_mail("payment:…", recipient, message)      # with the job that will send it
    …
    outcome = send(email_id, fence=lease_token, may_commit=lease_is_mine)
    with run.completion():
        record(outcome)                                             # or nothing of this is committed

`queue_mail` and `record` are part of the caller's transaction(); `send` is outside of any. A job whose one purpose is
the mail calls `send_draft` in place of the first two. Whatever line a process dies at, the job's next run calls the
same again with its own lease, and the ledger tells it how far the mail had come.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from email.headerregistry import Address
from typing import Literal
from uuid import UUID

from dues.breaker import Circuit
from dues.clock import now
from dues.errors import Problem, ValidationFailed
from dues.failpoints import failpoint
from dues.ids import new_id
from dues.jobs.exceptions import PermanentFailure, Retry
from dues.mail import ledger, smtp
from dues.mail.address import parse_address, parse_mailbox
from dues.mail.ledger import Mail
from dues.mail.message import Message, compose, message_id
from dues.mail.provider import NoAnswer, was_accepted
from dues.settings import settings

# A provider that has not answered for this long is treated as one that cannot be asked.
_ASK_FOR = timedelta(hours=1)
# How soon to retry when a worker has lost its turn: another worker may be sending the mail, and will soon be done.
_SOON_S = 5.0


class MailUnavailable(Problem):
    """Why a mail has to wait."""

    status, title, code = 503, "Mail deferred", "mail_deferred"


class MailDeferred(Retry):
    """The mail did not go out, or is in doubt, just now: the job is to call `send` again."""

    def __init__(
        self, detail: str, after_s: float | None = None, *, anew: bool = False, waits_for: str | None = None
    ) -> None:
        super().__init__(after_s, MailUnavailable(detail), anew=anew, waits_for=waits_for)


@dataclass(frozen=True, slots=True)
class Draft:
    """A mail that is not written down yet. `dedupe_key` says which mail it is. What a `secret` one says is forgotten
    once the mail server has accepted or refused it."""

    dedupe_key: str
    recipient: str
    message: Message
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mail: accepted by the server, refused for good, or held because nobody knows.

    `reply` is the server's last word, where there was one.
    """

    mail: Mail
    state: Literal["sent", "rejected", "unknown"]
    reply: str | None
    secret: bool = False

    @property
    def email_id(self) -> UUID:
        return self.mail.id


def queue_mail(dedupe_key: str, recipient: str, message: Message) -> UUID:
    """Compose a mail and write it down, in the caller's transaction(). Returns: the id by which `send` knows it.

    A mail with the same `dedupe_key` is the same mail, whatever it says: its id is returned and nothing is added.
    Raises: ValidationFailed where `recipient` is no address.
    """
    email_id, to, raw = _composed(recipient, message)
    return ledger.add(email_id, dedupe_key=dedupe_key, recipient=to, raw=raw)


def send(email_id: UUID, *, fence: UUID, may_commit: Callable[[], bool]) -> Outcome:
    """Send a mail, unless its fate is known already. Not in a transaction.

    `fence` is the lease of the calling job. `may_commit` says whether the caller may still let the server accept the
    mail: it is asked last thing before the final dot, and before anything is decided about a mail in doubt.

    Returns: an Outcome, to be passed to `record`.
    Raises: MailDeferred to be called again; Fenced (a LeaseLost) when another worker has the mail; PermanentFailure
    when there is no such mail.
    """
    failpoint("mail.before_claim")
    return _advance(ledger.claim(email_id, fence), fence, may_commit)


def send_draft(draft: Draft, *, fence: UUID, may_commit: Callable[[], bool]) -> Outcome:
    """`queue_mail` and `send` at once, for a job whose one purpose is this mail: it saves a commit.

    Raises: as `send` does, and PermanentFailure where the recipient is no address.
    """
    try:
        email_id, to, raw = _composed(draft.recipient, draft.message)
    except ValidationFailed as refused:
        raise PermanentFailure(refused) from refused
    failpoint("mail.before_claim")
    mail = ledger.add_claimed(email_id, dedupe_key=draft.dedupe_key, recipient=to, raw=raw, fence=fence)
    return replace(_advance(mail, fence, may_commit), secret=draft.secret)


def _composed(recipient: str, message: Message) -> tuple[UUID, str, bytes]:
    to, email_id = parse_address(recipient), new_id()
    return email_id, to.addr_spec, compose(message, email_id=email_id, sender=_sender(), recipient=to, date=now())


def _advance(mail: Mail, fence: UUID, may_commit: Callable[[], bool]) -> Outcome:
    """Bring a mail, claimed if it could be, from where it stands to an outcome."""
    failpoint("mail.after_claim")
    if mail.state in ("sent", "rejected", "unknown"):
        return Outcome(mail, mail.state, mail.reply)
    if mail.state == "committing":
        _still_mine(may_commit)
        mail = ledger.take_over(mail, fence)
        return _resolve(mail) or _transmit(ledger.reopen(mail), may_commit)
    return _transmit(mail, may_commit)


def record(outcome: Outcome) -> None:
    """Write an outcome down, in the caller's transaction(), which also ends the job; forget what a secret mail said.

    Raises: Fenced when another worker has taken the mail over; everything must then be rolled back.
    """
    failpoint("mail.before_record")
    if outcome.mail.state != outcome.state:
        ledger.finish(outcome.mail, outcome.state, outcome.reply)
    if outcome.secret and outcome.state != "unknown":
        ledger.forget(outcome.email_id)
    failpoint("mail.after_record")


def _transmit(mail: Mail, may_commit: Callable[[], bool]) -> Outcome:
    attempt = _Attempt(mail, may_commit)
    envelope = smtp.Envelope(sender=_sender().addr_spec, recipient=mail.recipient, raw=mail.raw)
    circuit = _circuit()
    if circuit.wait_s():
        ledger.release(mail, "the mail server does not answer")
        raise MailDeferred("the mail server does not answer", waits_for=circuit.name)
    try:
        failpoint("mail.before_connect")
        reply = smtp.deliver(_server(), envelope, attempt.before_dot)
        circuit.succeeded()
    except smtp.Refused as refusal:
        circuit.succeeded()
        return Outcome(attempt.mail, "rejected", str(refusal))
    except smtp.ConnectionLost as reason:
        circuit.failed()
        ledger.release(attempt.mail, str(reason))
        raise MailDeferred(f"the mail server did not take the mail: {reason}") from reason
    except smtp.NotTaken as reason:
        circuit.succeeded()
        ledger.release(attempt.mail, str(reason))
        raise MailDeferred(f"the mail server did not take the mail: {reason}") from reason
    except smtp.InDoubt as doubt:
        circuit.failed()
        if outcome := _resolve(attempt.mail):
            return outcome
        raise MailDeferred(f"the mail server's answer was lost: {doubt}") from doubt
    failpoint("mail.after_reply")
    return Outcome(attempt.mail, "sent", reply)


class _Attempt:
    """One transmission of a mail, and the gate before its final dot."""

    def __init__(self, mail: Mail, may_commit: Callable[[], bool]) -> None:
        self.mail = mail
        self._may_commit = may_commit

    def before_dot(self) -> None:
        failpoint("mail.before_committing")
        # The time allowed starts before the ledger's, so that it also ends before.
        expires = time.monotonic() + settings().smtp_timeout_s
        self.mail = ledger.commit(self.mail)
        failpoint("mail.after_committing")
        allowed = self._may_commit()
        failpoint("mail.before_dot")
        if not allowed or time.monotonic() > expires:
            ledger.release(self.mail, "its worker lost its turn before the final dot")
            raise MailDeferred("the worker lost its turn before the final dot", after_s=_SOON_S)


def _resolve(mail: Mail) -> Outcome | None:
    """Find out about a mail in `committing`. Returns: None where it is to be sent again.

    Raises: MailDeferred while that cannot be said yet.
    """
    age = ledger.doubt_age(mail)
    # Within this time a dot that is still under way arrives, or the kernel gives up on it, and the server decides.
    settled_in_s = 2 * settings().smtp_timeout_s - age.total_seconds()
    accepted = _ask(mail, age)
    if accepted:
        return Outcome(mail, "sent", "accepted, the provider says")
    if accepted is None and settings().mail_in_doubt == "hold":
        return Outcome(mail, "unknown", mail.reply)
    if settled_in_s > 0:
        raise MailDeferred("it is not known yet whether the mail was accepted", after_s=settled_in_s)
    return None


def _ask(mail: Mail, age: timedelta) -> bool | None:
    """Whether the provider accepted the mail; None where it cannot be asked."""
    if not settings().mail_lookup_url:
        return None
    try:
        return was_accepted(settings().mail_lookup_url, message_id(mail.raw), timeout_s=settings().smtp_timeout_s)
    except NoAnswer as reason:
        if age > _ASK_FOR:
            return None
        raise MailDeferred(f"the mail provider gave no answer: {reason}") from reason


def _still_mine(may_commit: Callable[[], bool]) -> None:
    if not may_commit():
        raise MailDeferred("the worker lost its turn", after_s=_SOON_S)


def _circuit() -> Circuit:
    """It says whether the mail server answers at all; what it answers concerns one mail only."""
    server = _server()
    timeout_s = settings().smtp_timeout_s
    return Circuit(f"smtp:{server.host}:{server.port}", first_s=2.0, longest_s=30.0, probe_s=3 * timeout_s)


def _sender() -> Address:
    return parse_mailbox(settings().mail_from)


def _server() -> smtp.Server:
    return smtp.parse_smtp_url(settings().smtp_url, client_name=_sender().domain, timeout_s=settings().smtp_timeout_s)
