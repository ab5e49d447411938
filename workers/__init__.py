"""The job edge: the only place that imports rq.

job.py         where handlers are declared, and what happens around them
registry.py    the one list of the modules that declare handlers
rq_worker.py   the loop that waits at one queue of RQ and does what is due in it
threads.py     several jobs at once in one worker process
forked.py      running a handler in a process of its own
heartbeat.py   keeping the leases of the jobs that are running
retry_db.py    waiting for a PostgreSQL that is away
interrupts.py  stopping a handler at its time limit, or when the worker is being stopped
supervisor.py  the worker processes: `python -m workers.supervisor`
relay.py       wakes workers for what is due, brings back what was lost: `python -m workers.relay`
rq_queues.py   RQ's queues as Dues uses them
drain.py       doing what is due in a queue here and now: `python -m workers.drain`
schedule.py    what is due again and again; housekeeping.py: of that, what deletes what has expired
"""
