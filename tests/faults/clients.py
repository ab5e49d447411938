"""The rows of the fault matrix that concern clients which sync, and imports."""

from functools import partial

from tests.faults.devices import Devices, Imports
from tests.faults.house import frozen
from tests.faults.matrix import Act, Row
from tests.faults.outages import flush, restart_redis, restart_web
from tests.faults.play import Play

_ROWS_OF_AN_IMPORT = 4000


def _sync_around(fault: Act, play: Play) -> None:
    devices = Devices(play.house)
    devices.add(3)
    fault(play)
    devices.add(3)
    play.strike()
    devices.check()
    play.pay(1)


def _kill_web_over_it(line: str, play: Play) -> None:
    marker = play.house.arm_web(line)
    devices = Devices(play.house)
    devices.add(3)
    assert marker.exists()
    play.strike(marker)
    devices.check()
    play.pay(1)


def _restart_postgres(play: Play) -> None:
    play.house.postgres.kill()
    play.house.postgres.start()


def _hang_postgres(play: Play) -> None:
    with frozen(play.house.postgres.pid, 3):
        pass


def _import_at_line(line: str, play: Play) -> None:
    imports = Imports(play.house, play.customer.store)
    imports.send(_ROWS_OF_AN_IMPORT)
    play.wait_for_line(line)
    play.settle()
    imports.check()


def _import_around(fault: Act, play: Play) -> None:
    imports = Imports(play.house, play.customer.store)
    imports.send(_ROWS_OF_AN_IMPORT)
    imports.wait_for_batch()
    fault(play)
    play.strike()
    play.settle()
    imports.check()


CLIENTS = [
    Row("sync", f"web -9 {moment}", partial(_kill_web_over_it, line))
    for line, moment in (
        ("web.before_commit", "before an operation's commit"),
        ("web.after_commit", "after it, before the answer"),
    )
]
CLIENTS += [
    Row("sync", moment, partial(_sync_around, fault))
    for fault, moment in (
        (flush, "Redis: FLUSHALL"),
        (restart_redis, "Redis: -9"),
        (restart_web, "a web process that takes another's place"),
        (_restart_postgres, "PostgreSQL: -9"),
        (_hang_postgres, "PostgreSQL: SIGSTOP"),
    )
]
CLIENTS += [
    Row("import", f"worker -9 {moment}", partial(_import_at_line, line), lines={"default": {line: "kill"}})
    for line, moment in (
        ("import.before_commit", "before a batch's commit"),
        ("import.after_batch", "after it"),
    )
]
CLIENTS += [
    Row("import", moment, partial(_import_around, fault))
    for fault, moment in (
        (flush, "Redis: FLUSHALL"),
        (restart_redis, "Redis: -9"),
        (_restart_postgres, "PostgreSQL: -9"),
    )
]
