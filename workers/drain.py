"""Do all due jobs of a queue in this process, then exit: `python -m workers.drain QUEUE`, or `flask jobs drain QUEUE`.

It claims jobs as workers do, one at a time, whether or not workers run, and needs neither Redis nor a relay. Jobs that
become due meanwhile are done too; jobs that wait for their next attempt are left. SIGTERM ends it as it ends a worker.
"""

import logging
import signal
import sys

from config import ConfigError
from dues.jobs.kinds import QUEUES, QueueName
from dues.observability.logs import start_logging
from dues.settings import settings
from workers import registry
from workers.app import create_worker_app
from workers.interrupts import interrupts
from workers.job import UndeclaredJob, check_declared, perform, promote, use_app

log = logging.getLogger("dues.worker")


def drain(queue: QueueName) -> int:
    """Do jobs until none is due. Returns: how many attempts were made."""
    count, more = 0, True
    while more and not interrupts.stopping:
        became_due = promote()
        done = perform(queue, lambda: interrupts.stopping)
        count, more = count + done, bool(became_due or done)
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
    log.info("%d attempts at jobs of %s", drain(queue), queue)


if __name__ == "__main__":
    main(sys.argv[1:])
