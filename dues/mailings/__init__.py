"""Mailing posts of stores to readers who may see them. Each reader gets a post once, whichever process dies on the way.

service.py            requests for mailings, and their states
recipients.py         the recipients of a mailing, and the state of each
letter.py             the content of the mail
unsubscribing.py      the link by which a reader unsubscribes
provider_events.py    bounces and complaints that the mail provider reports
"""
