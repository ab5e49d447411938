"""Subscriptions: what a member has bought for a period of time, and what state it is in.

calendar.py      periods: counted from the anchor, in the store's time zone
terms.py         what was bought: price and period, as agreed on
proration.py     the cost of changing the package in the middle of a period
dunning.py       the schedule after a renewal that could not be charged
subscription.py  a subscription, as one value
machine.py       the state machine: all changes that are possible
timeline.py      what is due next, and when
state.py         the only place where subscriptions are written
reads.py         what can be read

All but the last two are free of I/O: data in, data out. Charging is the business of dues/billing, which builds on this.
"""
