"""The fast host of the declared routes: what gunicorn serves, on an event loop.

worker.py          gunicorn's worker class: listens, and ends as gunicorn asks
connections.py     what all connections share: how many they may be, how long each may take, their end
protocol.py        one connection: bytes become requests, one at a time, and answers bytes
http1.py           the head of a request and the framing of its body, as RFC 9112 writes them
exchange.py        a request, what has been found out about it, and the way back to its client
application.py     the five steps of a request; cells.py: a step before, in a cell and in the directory of cells
response_cache.py  finished answers of this process; access_cache.py: what its callers may do; lru.py: both, bounded
redis_batch.py     one question to Redis for all requests of a turn of the loop
reads.py           reads made on the loop; loop_reader.py: through the cache; replicas.py: from a replica
admission.py       which request goes next to a thread, or to PostgreSQL, and which is turned away
thread_pool.py     threads that answer requests, and read files
long_poll.py       clients that wait; stand_back.py: who comes back to wait lets those go first who are to be told
metrics_buffer.py  what is counted, entered in the metrics four times a second

`gunicorn wsgi:app` is a complete server without it (api/flask_host.py).
"""
