"""Jobs: what taking and running one costs, mails from the payment to the mail server, more workers, and reports.

Every worker is one process (or as many as the row says) on the server core. PostgreSQL and Redis, the relay of Dues and
the mail server share the other; but for the report, which only reads, they are as safe against power cuts as `bin/run`
starts them. RQ's workers run in the environment of Dues, on the same RQ and redis-py, so that what differs is the
worker.
"""

from bench import jobs_mails, jobs_nothing, jobs_reports
from bench.data import serving_data, serving_new_data
from bench.jobs_crews import beside
from bench.report import Suite
from bench.servers import peer_python


def run(rounds: int, times: int, report_rows: int) -> Suite:
    """Backlogs are of about `times` half seconds for each contestant; `report_rows` is how long the report is."""
    suite = Suite(
        "Jobs",
        "Backlogs worked off by one worker process each, from their commit to the last job's end; a report from its"
        " request to its job's success. RQ's workers run on the libraries of Dues.",
    )
    peer_python()
    with beside():
        with serving_new_data(30_000) as data:
            jobs_nothing.measure(suite, data, rounds, jobs_nothing.counts(times))
            jobs_mails.measure(suite, data, rounds, 80 * times)
            suite.machine(data)
        with serving_data(report_rows, stores=1) as data:
            jobs_reports.measure(suite, data, rounds, report_rows)
    return suite
