"""Jobs: the cost of taking and running one, mails from the payment to the mail server, more workers, and reports.

Every worker is one process (or as many as the row says) on the server core. PostgreSQL and Redis, the relay of Dues and
the mail server share the other core. Except for the report, which only reads, PostgreSQL and Redis are as safe against
power failures as `bin/run` starts them. RQ's workers run in the environment of Dues, with the same versions of RQ and
redis-py, so that only the workers differ.
"""

from bench import jobs_mails, jobs_nothing, jobs_reports
from bench.data import serving_data, serving_new_data
from bench.jobs_processes import off_worker_core
from bench.report import Suite
from bench.servers import peer_python


def run(rounds: int, times: int, report_rows: int) -> Suite:
    """A backlog takes each contestant about `times` half seconds; `report_rows` is the length of the report."""
    suite = Suite(
        "Jobs",
        "Backlogs worked off by one worker process each, from their commit to the last job's end; a report from its"
        " request to its job's success. RQ's workers run on the libraries of Dues.",
    )
    peer_python()
    with off_worker_core():
        with serving_new_data(30_000) as data:
            jobs_nothing.measure(suite, data, rounds, jobs_nothing.counts(times))
            jobs_mails.measure(suite, data, rounds, 80 * times)
            suite.machine(data)
        with serving_data(report_rows, stores=1) as data:
            jobs_reports.measure(suite, data, rounds, report_rows)
    return suite
