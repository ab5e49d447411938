"""Where each table lies, and the session that looks."""

from collections.abc import Iterator

import pytest

from dues.postgres.changing import Session, changing
from dues.shards.placement import Place
from tests.servers import Servers

# A table that is not here yet goes where the rule puts it. Is that right? Whatever asks for it together with other
# tables has to find all of them on one server.
_PLACES: dict[Place, str] = {
    "reference": "addresses gateway_accounts packages payment_methods store_moves store_staff stores users",
    "local": """
        account_attempts account_codes api_tokens blocks cache_switch circuit_breakers comments email_sends follow_stats
        follows idempotency_keys jobs likes mail_domains post_packages post_stat_shards post_stats posts relay_looks
        replica_mark schedule_ticks store_places sync_changes sync_operations webhook_deliveries webhook_endpoints
    """,
    "distributed": """
        credit_notes credits customer_words customers disputes document_deliveries document_series documents
        event_streams events external_ids gateway_customers gateway_events import_refusals imports invoice_lines
        invoices ledger_entries ledger_transactions mail_suppressions mailing_recipients mailings number_counters
        payment_events payment_setups payments refunds reports store_clocks store_logos subscription_changes
        subscription_periods subscriptions trial_uses
    """,
}


def places() -> dict[Place, list[str]]:
    """The tables of each place."""
    return {place: names.split() for place, names in _PLACES.items()}


@pytest.fixture
def session(servers: Servers) -> Iterator[Session]:
    with changing(servers.settings()) as session:
        yield session
