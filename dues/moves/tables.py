"""What a store has: every table with rows of it, in an order in which each row comes after those that it refers to.

A table with a `store_id` that is not named here keeps stores from being moved (tests/moves/test_tables.py), as columns
do that the two ends do not both have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dues.accounts.passwords import NOBODY
from dues.moving import HELD

# Who refuses writes while the store is copied: a trigger on the table's own column `store_id`, or on the one named; on
# the post that the row is of; on jobs. "": nothing writes these rows but with others that are fenced.
Fence = Literal["store_id", "id", "post", "jobs", ""]


@dataclass(frozen=True)
class Table:
    """A table and which of its rows are the store's, `%(store_id)s`.

    people: its columns that name users. computed: columns that arrive with another value than they leave with.
    stays: the rows are copied, where the other end has not got them, and not taken away.
    """

    name: str
    rows: str = "store_id = %(store_id)s"
    people: tuple[str, ...] = ()
    fence: Fence = "store_id"
    computed: Mapping[str, str] = field(default_factory=dict)
    stays: bool = False


_PAYMENTS = "select id from payments where store_id = %(store_id)s"
_REFUNDS = "select id from refunds where store_id = %(store_id)s"
_POSTS = "post_id in (select id from posts where store_id = %(store_id)s)"
# The first id in the key of a mail is of what it is about.
_MAILS = f"""
    (regexp_match(dedupe_key, '[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}'))[1]::uuid in (
        {_PAYMENTS} union all {_REFUNDS} union all select %(store_id)s
        union all select id from subscriptions where store_id = %(store_id)s
        union all select id from webhook_endpoints where store_id = %(store_id)s
        union all select id from jobs where store_id = %(store_id)s)
"""
# Methods at the gateway that serves all stores belong to their payers: those that subscriptions are paid with.
_SHARED_METHODS = """
    store_id is null and (
        id in (select payment_method_id from subscriptions where store_id = %(store_id)s)
        or is_default and deleted_at is null and user_id in (
            select user_id from subscriptions where store_id = %(store_id)s and uses_default_method))
"""
_SANDBOX_METHODS = f"""
    reference in (select gateway_ref from payment_methods where store_id = %(store_id)s or {_SHARED_METHODS})
"""

TABLES = (
    Table("stores", rows="id = %(store_id)s", people=("owner_id",), fence="id"),
    Table("store_logos"),
    Table("store_staff", people=("user_id",)),
    Table("store_clocks"),
    Table("gateway_accounts"),
    Table("gateway_customers", people=("user_id",)),
    Table("gateway_events"),
    Table("event_streams"),
    Table("number_counters"),
    Table("document_series"),
    Table("packages"),
    Table("customers", people=("user_id",)),
    Table("payment_methods", people=("user_id",)),
    Table("payment_methods", rows=_SHARED_METHODS, fence="", stays=True),
    Table("payment_setups", people=("user_id",)),
    Table("payments", people=("user_id",)),
    Table("payment_events"),
    Table("refunds"),
    Table("disputes"),
    Table("documents", people=("user_id",)),
    Table("document_deliveries"),
    Table("subscriptions", people=("user_id",)),
    Table("subscription_changes", people=("actor_id",)),
    Table("trial_uses"),
    Table("invoices", people=("user_id",)),
    Table("invoice_lines"),
    Table("credit_notes", people=("user_id",)),
    Table("credits", people=("user_id",)),
    Table("subscription_periods"),
    Table("ledger_transactions", people=("user_id",)),
    Table("ledger_entries"),
    Table("reports", people=("requested_by",)),
    Table("imports", people=("requested_by",)),
    Table("import_refusals"),
    Table("external_ids"),
    Table("posts", people=("author_id",)),
    Table("post_packages", people=("author_id",)),
    Table("post_stats", rows=_POSTS, fence="post"),
    Table("post_stat_shards", rows=_POSTS, fence="post"),
    Table("comments", rows=_POSTS, people=("author_id",), fence="post"),
    Table("likes", rows=_POSTS, people=("user_id",), fence="post"),
    Table("mailings", people=("requested_by",)),
    Table("mailing_recipients", people=("user_id",)),
    Table("mail_suppressions", people=("user_id",)),
    Table("webhook_endpoints"),
    Table("events"),
    Table("webhook_deliveries"),
    # Circuits are those of the machine that calls: what waits for one is tried where it arrives.
    Table(
        "jobs",
        people=("owner_id",),
        fence="jobs",
        computed={
            "queue": f"regexp_replace(queue, '^{HELD}', '')",
            "due": "due or waits_for is not null",
            "run_at": "case when waits_for is null then run_at else least(run_at, now()) end",
            "waits_for": "null::text",
        },
    ),
    Table("email_sends", rows=_MAILS, fence=""),
    Table("idempotency_keys", rows="lower(scope) like '%% /v1/stores/' || %(store_id)s || '%%'", fence=""),
    # The sandbox stands for a gateway outside, whose books would be the same wherever the store is.
    Table("sandbox_gateway.operations", rows=f"key in (select id::text from ({_PAYMENTS} union all {_REFUNDS}) keys)",
          fence=""),
    Table("sandbox_gateway.disputes", fence=""),
    Table("sandbox_gateway.methods", rows=_SANDBOX_METHODS, fence="", stays=True),
)  # fmt: skip

# Tables with a `store_id` whose rows do not go along, and why.
LEFT = {
    "api_tokens": "a token opens something at the Dues that issued it alone; those bound to the store are deleted",
    "customer_words": "made by triggers as customers arrive",
    "store_moves": "each end keeps its own",
    "store_places": "the directory of cells notes where the store has gone",
}

_NAMED = " union ".join(
    f"select {column} as id from {table.name} where {table.rows}" for table in TABLES for column in table.people
)
# The accounts of all whom the store's rows name. They stay where they are, and are known at the other end by their ids:
# where one is not, it is made, as one that has no password (dues/accounts/brought_along.py).
PEOPLE = Table(
    "users",
    rows=f"id in ({_NAMED})",
    fence="",
    computed={"password_hash": f"'{NOBODY}'"},
    stays=True,
)
MOVED = tuple(table for table in TABLES if not table.stays)
