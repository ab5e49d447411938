"""Payments and their refunds: accepted at once, charged by a worker, and never charged twice.

service.py       requests for a payment or a refund, and the payer's confirmation
state.py         the only place where the status of a payment or a refund changes
processing.py    what workers do: charge, refund, reconcile
gateway.py       the interface of a payment gateway; gateways.py: the list of them; sandbox.py: the built-in one
methods.py       stored payment methods
reads.py         what may be read
notices.py       the mails about a payment: to whom, and the key under which each is sent once
confirmation.py  what these mails say; receipt.py and receipts.py: the attached receipt
"""
