"""Webhooks: events of a store are sent to the URLs that its managers have registered (Standard Webhooks).

    endpoints.py    endpoints are registered, changed, disabled; their secrets
    fanout.py       an event becomes one delivery for each endpoint that wants it
    replays.py      events are sent to an endpoint again
    deliveries.py   one attempt at a delivery, and what comes of it: the one writer of deliveries
    waiting.py      deliveries to an endpoint whose circuit is open wait together
    schedule.py     when the next attempt is made, and when an endpoint is given up
    signing.py      secrets and signatures
    outbound.py     sends a POST to a URL that a customer chose
    answers.py      reads the receiver's answer, whatever it is
    hosts.py        how many requests wait for one host at once
    addresses.py    addresses that no request is sent to
    alerts.py       the mails to a store's owner when an endpoint fails
    retention.py    deletes old events and deliveries
    reads.py        what the API shows of endpoints, deliveries and events

Events themselves are written by dues/events.py, for slices that know nothing of webhooks.
"""
