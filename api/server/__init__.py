"""The front door: what gunicorn serves, around the Flask application. It does only what must not cost a thread.

door.py      a request's way: a cached hit, a read made here, or through the slots to a thread
visit.py     a request, and what is found out about it
hits.py      finished answers of this process (answers.py: as they go out; memory.py: how many), and callers.py what
             its callers may do; checks.py asks Redis whether both still hold, on the connection of redis.py
reads.py     reads that no cache has, made without Flask or a thread; postgres.py runs their statements
writes.py    writes of callers who are known, made on a thread without Flask (paths.py: which route a path is)
slots.py     who may go to a thread or to PostgreSQL next, and who is turned away when there are too many
threads.py   Flask on a pool of threads: a whole request in, a whole answer out
tally.py     what is counted of requests that Flask does not see
intake.py    a body, read before Flask is bothered, within bounds of size and time
held.py      an answer whose client waits for more: waits.py knows who waits, hearing.py hears what has changed,
             regulars.py knows who comes back
outflow.py   answers and files, sent as fast as the client takes them, within bounds of time

`gunicorn wsgi:app` stays a complete server without it.
"""
