"""The one table of job kinds: what slow work there is, where it runs and how often it is tried.

A kind stands here only when workers/ has a handler for it: a worker refuses to start otherwise.
"""

from dataclasses import dataclass
from typing import Literal, get_args

QueueName = Literal["critical", "default", "events", "bulk", "slow", "webhooks"]
QUEUES: tuple[QueueName, ...] = get_args(QueueName)

# The longest that a job should wait for a worker: what scaling workers aims at. Seconds.
OBJECTIVES_S: dict[QueueName, float] = {
    "critical": 2.0,
    "default": 10.0,
    "events": 5.0,
    "bulk": 3600.0,
    "slow": 120.0,
    "webhooks": 30.0,
}


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    `timeout_s` bounds one attempt. `cancelable` jobs can be canceled by those who see them; a running one only
    notices where its handler reports progress. A `forked` kind runs in a process of its own, which is killed at its
    timeout and gives its memory back: for long work. Others run in the worker's process, those of `webhooks` in one of
    its threads, where nothing can stop a handler that exceeds its time: it must bound each of its calls itself.
    """

    name: str
    queue: QueueName
    max_attempts: int = 20
    timeout_s: int = 180
    cancelable: bool = False
    forked: bool = False


PAYMENT_CHARGE = Kind("payment.charge", "critical", timeout_s=60)
# The last word of the gateway on a charge whose payer is not waited for any more.
PAYMENT_CANCEL = Kind("payment.cancel", "default", timeout_s=60)
PAYMENT_REFUND = Kind("payment.refund", "critical", timeout_s=60)
# With the charges: what waits for the gateway waits together, and nothing else does.
PAYMENT_RECONCILE = Kind("payment.reconcile", "critical", timeout_s=60)
# What a gateway has news of, and the setup of a payer's method there.
GATEWAY_NEWS = Kind("gateway.news", "critical", timeout_s=60)
PAYMENT_SETUP = Kind("payment.setup", "critical", max_attempts=8, timeout_s=60)
PAYMENT_METHOD_DETACH = Kind("payment_method.detach", "critical", max_attempts=8, timeout_s=60)
# Hooks get lost: what gateways have told is listed again and again.
GATEWAY_SWEEP = Kind("gateway.sweep", "slow", max_attempts=3, timeout_s=300)
GATEWAY_SWEEPS = Kind("gateway.sweeps", "slow", max_attempts=3)
# Mails have a queue of their own: a mail server that hangs must not keep anybody from paying, and what else may hang
# must not keep mails.
PAYMENT_CONFIRMATION = Kind("payment.confirmation", "default", timeout_s=120)
PAYMENT_NOTICE = Kind("payment.notice", "default", timeout_s=120)
DOCUMENT_DELIVERY = Kind("document.delivery", "default", timeout_s=120)
# Tells a payer that their bank has sent a refund back.
PAYMENT_RETURNED = Kind("payment.returned", "default", timeout_s=120)
# Does what is due of subscriptions, one batch after another; the charges are jobs of their own. They and their mails
# are on `bulk` as well: many are due at once, and nobody waits for them, so they must not stand before those who pay.
SUBSCRIPTION_RENEW = Kind("subscription.renew", "bulk", timeout_s=300)
SUBSCRIPTION_NOTICE = Kind("subscription.notice", "default", timeout_s=120)
# Invoices and credit notes that go with no mail.
DOCUMENT_ISSUE = Kind("document.issue", "slow", timeout_s=120)
MAILING_SEND = Kind("mailing.send", "default", timeout_s=120)
# Years may go by on the way; what is due in them is done one after the other.
STORE_CLOCK = Kind("store.clock", "slow", timeout_s=3600, cancelable=True)
ACCOUNT_VERIFICATION = Kind("account.verification", "default", timeout_s=120)
ACCOUNT_PASSWORD_RESET = Kind("account.password_reset", "default", timeout_s=120)
ACCOUNT_NOTICE = Kind("account.notice", "default", timeout_s=120)
POST_PUBLISH = Kind("post.publish", "default", timeout_s=60)
# One mail after the other, in turns with whatever else waits for this queue.
POST_MAILING = Kind("post.mailing", "default", timeout_s=300, cancelable=True)
POST_MAILING_TEST = Kind("post.mailing_test", "default", timeout_s=120)
# A reader of a store that has moved to another Dues wants no more of its posts. Not with the mails, which must not wait
# for the other Dues where it hangs, but with the deliveries.
UNSUBSCRIBE_ELSEWHERE = Kind("mailing.unsubscribe_elsewhere", "webhooks", timeout_s=60)
# The mail provider reports what became of mails that are not known here: those of stores that have moved, perhaps.
REPORT_ELSEWHERE = Kind("mailing.report_elsewhere", "webhooks", timeout_s=60)
# With the deliveries, because it is one: a request to the outside, made by one thread of many.
EDGE_PURGE = Kind("edge.purge", "webhooks", timeout_s=60)
# The same, to the cells of which this Dues is the directory: an account has changed.
CELLS_TELL = Kind("cells.tell", "webhooks", timeout_s=60)
# Rows and nothing else, so it never waits behind receivers that do not answer.
WEBHOOK_FAN_OUT = Kind("webhook.fan_out", "events", timeout_s=60)
# As many attempts as dues/webhooks/schedule.py has waits.
WEBHOOK_DELIVER = Kind("webhook.deliver", "webhooks", max_attempts=10, timeout_s=60)
WEBHOOK_REPLAY = Kind("webhook.replay", "slow", timeout_s=3600, cancelable=True)
REPORT_BUILD = Kind("report.build", "slow", max_attempts=5, timeout_s=3600, cancelable=True, forked=True)
# As many attempts as a machine may lose workers: each goes on where the one before had come to.
IMPORT_RUN = Kind("import.run", "slow", timeout_s=3600, cancelable=True, forked=True)
# Expired rows and files are deleted, so that tables and folders do not grow for ever. On the queue of the reports,
# which are less urgent than mails.
FORGET_KEYS = Kind("housekeeping.keys", "slow")
FORGET_JOBS = Kind("housekeeping.jobs", "slow")
FORGET_TOKENS = Kind("housekeeping.tokens", "slow")
FORGET_CODES = Kind("housekeeping.codes", "slow")
FORGET_ATTEMPTS = Kind("housekeeping.attempts", "slow")
FORGET_REPORT_FILES = Kind("housekeeping.report_files", "slow")
FORGET_IMPORT_FILES = Kind("housekeeping.import_files", "slow")
FORGET_EVENTS = Kind("housekeeping.events", "slow")
FORGET_SYNC_OPERATIONS = Kind("housekeeping.sync_operations", "slow")
FORGET_SYNC_TOMBSTONES = Kind("housekeeping.sync_tombstones", "slow")
FORGET_CIRCUITS = Kind("housekeeping.circuits", "slow")
FORGET_GATEWAY_EVENTS = Kind("housekeeping.gateway_events", "slow")
# In the directory of cells: stores that were asked for and never made.
FORGET_PLACES = Kind("housekeeping.places", "slow", timeout_s=600)
# Makes partitions of months ahead, and empties old ones, of tables that have such.
FORGET_PARTITIONS = Kind("housekeeping.partitions", "slow")

# Each that is declared above.
KINDS: dict[str, Kind] = {kind.name: kind for kind in list(globals().values()) if isinstance(kind, Kind)}
