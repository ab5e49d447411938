"""Subscriptions: what a member has bought for a time, and where they are in it.

calendar.py      periods: from the anchor, in the store's time zone
terms.py         what was bought, frozen
proration.py     what a change of package costs in the middle of a period
dunning.py       what happens after a renewal that could not be charged, and when
subscription.py  a subscription as it stands
machine.py       how it may change: from one to the next, and nothing else
timeline.py      what is due next, and when
state.py         the place a subscription is written
reads.py         what may be read

All but the last two are free of I/O: data in, data out. Money is asked for by dues/billing, which stands above.
"""
