"""Webhooks: what happens in a store is told to the URLs that its managers have registered (Standard Webhooks).

    endpoints.py    the place endpoints are registered, changed, disabled; their secrets
    fanout.py       an event becomes one delivery for each endpoint that wants it
    replays.py      events are sent to an endpoint again
    deliveries.py   one attempt at a delivery, and what comes of it: the one writer of deliveries
    waiting.py      what is due to an endpoint that is left alone waits for it, all together
    schedule.py     when the next attempt is made, and when an endpoint is given up
    signing.py      secrets and signatures
    outbound.py     the one way out: a POST to a URL that a customer chose
    answers.py      what comes back, whatever it is
    hosts.py        how many requests wait for one host at once
    addresses.py    where that must never lead
    alerts.py       the mails to a store's owner when an endpoint fails
    retention.py    how long it is kept
    reads.py        what may be read of all this, and of events

Events themselves are written by dues/events.py, for slices that know nothing of webhooks.
"""
