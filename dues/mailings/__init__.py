"""Posts of stores as mails to those who may see them: each recipient gets a post once, whatever dies on the way.

service.py            asks for mailings and moves them from state to state
recipients.py         who gets one, and how far each of them is
letter.py             what the mail says
unsubscribing.py      the link by which a reader gets no more
provider_events.py    bounces and complaints that the mail provider reports
"""
