"""The job edge: the only place that imports rq.

job.py         the place a job is declared, and what happens around its body
bodies.py      the one list of the modules that declare jobs
rq_worker.py   the loop that takes deliveries from one queue
forked.py      running a body in a process of its own
renewal.py     keeping the lease of the job that is running
patience.py    waiting for a PostgreSQL that is away
interrupts.py  stopping a body at its time limit, or when the worker is being stopped
run.py         the supervisor: `python -m workers.supervisor`
relay.py       what is due goes to RQ, what was lost comes back: `python -m workers.relay`
drain.py       doing what is due in a queue here and now: `python -m workers.drain`
schedule.py    what is due again and again; housekeeping.py: of that, what forgets what is over
"""
