"""The front door: what gunicorn serves, around the Flask application. It does only what must not cost a thread.

door.py      a request's way: a cached hit, or through the slots to Flask
hits.py      finished answers of this process, and callers.py what its callers may do; checks.py asks Redis whether both
             still hold
slots.py     who may go to Flask next, and who is turned away when there are too many
threads.py   Flask on a pool of threads: a whole request in, a whole answer out
intake.py    a body, read before Flask is bothered, within bounds of size and time
held.py      an answer whose client waits for more: waits.py knows who waits, hearing.py hears what has changed,
             regulars.py knows who comes back
outflow.py   answers and files, sent as fast as the client takes them, within bounds of time

`gunicorn wsgi:app` stays a complete server without it.
"""
