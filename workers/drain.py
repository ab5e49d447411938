"""Doing all that is due in a queue, in this process: `python -m workers.drain QUEUE`, or `flask jobs drain QUEUE`.

It takes jobs straight from PostgreSQL, with the same claims as workers: beside them, in their place, without Redis.
What becomes due meanwhile is done too; what is to be tried again later is left. SIGTERM ends it as it ends a worker.
"""

import logging
import signal
import sys

from config import ConfigError
from dues.jobs.kinds import QUEUES
from dues.observability.logs import start_logging
from dues.settings import settings
from workers import registry as bodies
from workers.app import create_worker_app
from workers.interrupts import interrupts
from workers.job import UndeclaredJob, check_declared, perform_next, use_app

log = logging.getLogger("dues.worker")


def drain(queue: str) -> int:
    """Returns: how many attempts were made."""
    count = 0
    while not interrupts.stopping and perform_next(queue):
        count += 1
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
    log.info("draining %s; bodies from %s", arguments[0], ", ".join(module.__name__ for module in bodies.MODULES))
    log.info("%d attempts at jobs of %s", drain(arguments[0]), arguments[0])


if __name__ == "__main__":
    main(sys.argv[1:])
