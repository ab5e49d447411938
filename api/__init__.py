"""The HTTP edge: the only place that sees a request.

app.py             create_app, and the one visible list of routes' modules
routing.py         how a route is declared
routes/            the declared routes, one module per slice
request.py         a request, read once; client_address.py: from whom it comes, behind proxies
serving.py         all that lies between a request to a declared route and its reply
reply.py           a reply, as data
auth.py            token -> Access, scopes, the order of refusals
limits.py          how often a caller may ask
body.py            a request's body: size, encoding, JSON; validation.py: all its faults at once
idempotency.py     Idempotency-Key
http.py            conditional requests, problem details
downloads.py       files: whole, in ranges, conditional
compress.py        zstd, br, gzip
telemetry.py       what every answer tells of its request, and what is measured and logged of it
prefer.py          `Prefer: wait`; long_poll.py: the reply when the wait is over; job_waiters.py: the waiting clients
flask_host.py      Flask as the host of the declared routes; thread_waiters.py: waiting on its threads
server/            the fast host
system.py          /healthz, /readyz, /metrics
openapi/           the OpenAPI document, generated from the same declarations
pages/             /docs, and what links in mails open
"""
