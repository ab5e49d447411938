"""Payments: taken at once, charged by a worker, never charged twice; and their refunds.

service.py       asking for a payment, a refund, a confirmation by the payer
state.py         the place a payment's status changes, and a refund's
processing.py    what workers do: charge, refund, reconcile
gateway.py       what a payment gateway can be asked; gateways.py: which there are; sandbox.py: the one built in
methods.py       stored payment methods
reads.py         what may be read
notices.py       the mails about a payment, each with the key that says which it is
confirmation.py  what they say; receipt.py and typeset.py: the receipt that goes along
"""
