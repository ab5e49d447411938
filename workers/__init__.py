"""Background jobs: the processes that do them, and the only package that imports rq.

job.py         how a handler is declared, and what happens around it: claim, renew, finish, retry
registry.py    the modules that declare handlers, from the one list of slices
rq_worker.py   the loop of one worker: wait at one queue of RQ, then do the jobs that are due in it
threads.py     several jobs at once in one worker process
forked.py      running a handler in a process of its own
heartbeat.py   keeping the leases of the jobs that are running
retry_db.py    calling again while PostgreSQL cannot be reached
interrupts.py  stopping a handler at its time limit, or when the worker is being stopped
supervisor.py  the worker processes: `python -m workers.supervisor`
relay.py       wakes workers for due jobs, brings back lost ones: `python -m workers.relay`
rq_queues.py   RQ's queues as Dues uses them
drain.py       doing the due jobs of a queue in this process: `python -m workers.drain`
schedule.py    recurring jobs; housekeeping.py has those that delete expired rows and files
"""
