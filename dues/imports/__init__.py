"""Imports: a store brings along its customers, packages and subscriptions, in a file of rows, and nobody is charged or
mailed for it.

    service.py        asking for an import, and the place an import's status changes
    upload.py         a file as it arrives: decoded, within bounds, and of a form that can be read
    lines.py          a file's lines and records, with the positions at which they end
    rows.py           a record as a row of customers, packages or subscriptions; or why it is none
    context.py        the store for which a batch is written
    apply.py          many rows in one transaction, each known by its external id
    customers.py      the customers of a batch, and the accounts that they have or are given
    packages.py       the packages of a batch
    dates.py          the dates of a subscription that began elsewhere
    subscriptions.py  the subscriptions of a batch, with their dates kept
    run.py            batch after batch, each with the position that it has come to
    refusals.py       what was refused and why, as a file
    retention.py      files are kept for a time

workers/imports.py is the job, api/routes/imports.py the routes.
"""
