"""Mail: composed once, written down in a ledger, sent through SMTP, and never sent twice by guessing.

`service.py` is what jobs call; `ledger.py` is the only writer of a mail's state; `message.py` makes the bytes;
`smtp.py` and `provider.py` are the two ways of talking to the mail server. docs/mail.md says what is promised.
"""
