"""Do all due jobs of a queue in this process, then exit: `python -m workers.drain QUEUE`, or `flask jobs drain QUEUE`.

It claims jobs as workers do, one at a time, whether or not workers run, and needs neither Redis nor a relay. Jobs that
become due meanwhile are done too; jobs that wait for their next attempt are left. SIGTERM and Ctrl-C end it as they end
a worker; the exit status is then 1, as it is where the database is away, since jobs may be left.
"""

import logging
import signal
import sys

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from config import ConfigError
from dues.jobs.kinds import QUEUES, QueueName
from dues.observability.logs import start_logging
from dues.postgres.release import standing
from dues.postgres.sqlstate import refusal_of
from dues.settings import settings
from workers import registry
from workers.app import create_worker_app
from workers.interrupts import interrupts
from workers.job import UndeclaredJob, check_declared, make_due, perform, use_app

log = logging.getLogger("dues.worker")


def drain(queue: QueueName) -> int:
    """Do jobs until none is due. Returns: how many attempts were made. Raises: psycopg2.Error and SQLAlchemy's."""
    count, more = 0, True
    while more and not interrupts.stopping:
        done = perform(queue, lambda: interrupts.stopping)
        # This raises where the database is away, which may be all that kept `perform()` from finding jobs.
        count, more = count + done, bool(make_due() or done)
    return count


def main(arguments: list[str]) -> None:
    if len(arguments) != 1 or arguments[0] not in QUEUES:
        sys.exit(f"usage: python -m workers.drain {{{','.join(QUEUES)}}}")
    try:
        check_declared()
        app = create_worker_app()
    except (ConfigError, UndeclaredJob) as error:
        sys.exit(str(error))
    with app.app_context():
        start_logging(settings().log_level)
    use_app(app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: interrupts.request_stop())
    [queue] = [name for name in QUEUES if name == arguments[0]]
    log.info("draining %s; handlers from %s", queue, ", ".join(module.__name__ for module in registry.MODULES))
    try:
        with app.app_context():
            if (found := standing(settings())).is_behind:
                sys.exit(f"{queue} is not drained: {found.told()}")
        count = drain(queue)
    except (psycopg2.Error, SQLAlchemyError) as error:
        if (said := refusal_of(error)) is None:
            raise
        sys.exit(f"{queue} is not drained: {said}")
    log.info("%d attempts at jobs of %s", count, queue)
    if interrupts.stopping:
        sys.exit(f"{queue} is not drained: told to stop")


if __name__ == "__main__":
    main(sys.argv[1:])
