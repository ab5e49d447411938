"""Payments and their refunds: accepted at once, charged by a worker, and never charged twice.

service.py       requests for a payment or a refund, and the payer's confirmation
state.py         the only place where the status of a payment or a refund changes
processing.py    what workers do: charge, refund, reconcile
gateway.py       the interface of a payment gateway; gateways.py: the gateways, and which one charges in a store
sandbox.py       the built-in gateway
stripe_*.py      Stripe: the gateway, its client, its events, its amounts
accounts.py      a store's account at a gateway of its own
setups.py        storing a payment method at that gateway
hooks.py         news from gateways, by webhook or by listing
disputes.py      the only place where the status of a dispute changes
commands.py      `flask gateways`
methods.py       stored payment methods
reads.py         what can be read
notices.py       the mails about a payment: to whom, and the key that makes each be sent once
confirmation.py  the text of these mails; receipt.py and receipts.py: the attached receipt
"""
