"""The supervisor or the relay with the handlers of tests/workers/deeds.py, in a process of its own."""

import os

import tests.workers.deeds  # noqa: F401  (declares its handlers)
from dues import failpoints
from workers import forked, interrupts, relay, rq_worker, schedule
from workers import supervisor as run


def serve(what: str, environ: dict[str, str], drain_s: float) -> None:
    """Be `relay` or `workers` with the settings and failpoints of `environ`, no long waits and, unless
    DUES_TESTS_SCHEDULE is set, nothing that is due by itself. What it says is appended to the file DUES_TESTS_OUTPUT,
    where that is named."""
    os.environ.clear()
    os.environ.update(environ)
    if output := environ.get("DUES_TESTS_OUTPUT"):
        with open(output, "ab") as file:
            os.dup2(file.fileno(), 1)
    failpoints._armed = failpoints.parse(environ.get("DUES_FAILPOINTS", ""))
    forked._GRACE_S = 0.5
    interrupts.DRAIN_S = drain_s
    rq_worker._LOOK_S = 0.2
    if not environ.get("DUES_TESTS_SCHEDULE"):
        schedule.SCHEDULE = ()
    {"workers": run.supervise, "relay": relay.main}[what]()
