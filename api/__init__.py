"""The HTTP edge: the only place that sees a request.

app.py          create_app, and the one visible list of routes' modules
sent.py         a request as routes see it, whoever serves it
routing.py      how a route is declared, and what happens around every one
auth.py         token -> Access, scopes, the order of refusals
http.py         answers: JSON, conditional requests, problem details
body.py         a request's body: size, encoding, JSON, all validation errors at once
idempotency.py  Idempotency-Key
downloads.py    files: whole, in ranges, conditional
compress.py     zstd, br, gzip
telemetry.py    request ids and traces, durations, Server-Timing, the metrics of requests
system.py       /healthz, /readyz, /metrics
openapi.py      the OpenAPI document, generated from the same declarations; its shared parts are in openapi_parts.py,
                its sample values in examples.py
pages/          /docs, and what links in mails open
"""
