"""The kinds of reports there are, by their names."""

from dues.reports.books import INVOICES, LEDGER, SUBSCRIBERS
from dues.reports.rows import PAYMENTS, REVENUE, Rows

KINDS: dict[str, Rows] = {rows.kind: rows for rows in (PAYMENTS, REVENUE, SUBSCRIBERS, INVOICES, LEDGER)}
