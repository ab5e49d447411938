"""Payments and their refunds: accepted at once, charged by a worker, and never charged twice.

service.py       requests for a payment or a refund, and the payer's confirmation
state.py         the only place where the status of a payment or a refund changes
processing.py    what workers do: charge, refund, reconcile
gateway.py       what a payment gateway can be asked; gateways.py: which there are, and which charges in a store
sandbox.py       the gateway that is built in
stripe_*.py      Stripe: as a gateway, its client, its events, its amounts
accounts.py      a store's account at a gateway of its own
setups.py        storing a payment method there
hooks.py         what gateways have news of
disputes.py      the place a dispute's status changes
commands.py      `flask gateways`
methods.py       stored payment methods
reads.py         what may be read
notices.py       the mails about a payment: to whom, and the key under which each is sent once
confirmation.py  what these mails say; receipt.py and receipts.py: the attached receipt
"""
