"""The numbers of all processes of a web server, whichever of them is asked.

Each process counts in its own memory. Asked for `/metrics`, one of them has the others write down what they have
counted, each in a file that takes the place of its last one at once, and adds all of it up. So nothing that only
measures can harm a server: a disk that is full costs the numbers of the other processes (those of their last file
stand), a file that is empty or torn is passed over, and either is counted.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ujson
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

# How often a process looks whether it is asked, how long the one that asks waits for the others, and how much of what a
# process has counted may be lost when it is killed.
_LOOK_S, _WAIT_S, _UNASKED_S = 0.1, 0.5, 10.0
_ASKED, _GONE = "asked", "gone.json"

# A sample's name and labels, to its value; by the name of its metric.
Samples = dict[tuple[str, str], float]
Numbers = dict[str, Samples]

log = logging.getLogger(__name__)


class Exchange:
    """One process's part. `folder` is shared by the processes of one server, and by no other."""

    def __init__(self, folder: Path, registry: CollectorRegistry = REGISTRY, pid: int | None = None) -> None:
        self._folder, self._registry = folder, registry
        self._file = folder / f"{pid or os.getpid()}.json"
        self._answered_ns = 0
        self._has_failed = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Be known to the others, and write whenever one of them asks, from a thread."""
        self.write()
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def _run(self) -> None:
        written_at = time.monotonic()
        while True:
            time.sleep(_LOOK_S)
            if self._asked_ns() > self._answered_ns or time.monotonic() - written_at > _UNASKED_S:
                self.write()
                written_at = time.monotonic()

    def _asked_ns(self) -> int:
        try:
            return (self._folder / _ASKED).stat().st_mtime_ns
        except OSError:
            return 0

    def write(self) -> None:
        """Write down what this process has counted. Never fails."""
        with self._lock:
            asked_ns = self._asked_ns()
            # Read before the numbers are: the process that asks gets what was counted until then at least.
            document = {"answers": asked_ns, "numbers": _written(numbers_of(self._registry))}
            try:
                _put(self._file, document)
            except OSError as error:
                if not self._has_failed:
                    log.warning("what this process measures cannot be shown by the others: %s", error)
                self._has_failed = True
            else:
                self._has_failed = False
            self._answered_ns = asked_ns

    def collect(self) -> "AllProcesses":
        """Ask all the others, and wait for those that answer in time."""
        asked_ns = time.time_ns()
        with contextlib.suppress(OSError):
            os.utime(self._folder / _ASKED, ns=(asked_ns, asked_ns))
        # What was shown once must outlive this process, too: a count that goes down is taken for one that began anew.
        self.write()
        until = time.monotonic() + _WAIT_S
        while not self._all_have_answered(asked_ns) and time.monotonic() < until:
            time.sleep(_LOOK_S / 4)
        return AllProcesses(self._registry, *self._others())

    def _all_have_answered(self, asked_ns: int) -> bool:
        others = [file for file in self._files() if _is_alive(file)]
        return all((_read(file) or {}).get("answers", 0) >= asked_ns for file in others)

    def _files(self) -> list[Path]:
        return [file for file in self._folder.glob("*.json") if file != self._file]

    def _others(self) -> tuple[list[Numbers], int]:
        """What other processes have counted, and how many of their files could not be read."""
        found, unreadable = [], 0
        for file in self._files():
            document = _read(file)
            if document is None:
                unreadable += 1
                continue
            numbers = _understood(document["numbers"])
            found.append(numbers if _is_alive(file) else _lasting(numbers, self._registry))
        return found, unreadable


class AllProcesses(Collector):
    """The sums of one process's registry and the numbers of others."""

    def __init__(self, registry: CollectorRegistry, others: Iterable[Numbers], unreadable: int) -> None:
        self._registry, self._others, self._unreadable = registry, list(others), unreadable

    def collect(self) -> Iterator[Metric]:
        for own in _ours(self._registry):
            sums: Samples = defaultdict(float)
            for numbers in (_numbers_in(own), *(other.get(own.name, {}) for other in self._others)):
                for sample, value in numbers.items():
                    sums[sample] += value
            whole = Metric(own.name, own.documentation, own.type)
            for (name, labels), value in sums.items():
                whole.add_sample(name, dict(ujson.loads(labels)), value)
            yield whole
        unreadable = Metric("dues_metrics_unreadable_files", "Processes whose numbers could not be read", "gauge")
        unreadable.add_sample(unreadable.name, {}, self._unreadable)
        yield unreadable


def prepare(folder: Path) -> bool:
    """Make an empty folder for a server's processes, and remove those of servers that are gone: they are named alike,
    with the server's process id at the end. False where that cannot be done; each process then shows its own."""
    with contextlib.suppress(OSError):
        for other in folder.parent.glob(f"{folder.name.rpartition('-')[0]}-*"):
            if not _is_running(other.name.rpartition("-")[2]):
                shutil.rmtree(other, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        (folder / _ASKED).touch()
        return True
    return False


def fold(folder: Path, pid: int) -> None:
    """Add what a process that is gone had counted to what all before it had: its file goes, its counts stay. Never
    fails: a file that stays is read as that of a process that is gone."""
    file, gone = folder / f"{pid}.json", folder / _GONE
    document = _read(file)
    with contextlib.suppress(OSError):
        if document is not None:
            sums: Numbers = defaultdict(lambda: defaultdict(float))
            before = _read(gone)
            for numbers in (_understood(each["numbers"]) for each in (before, document) if each):
                for metric, samples in numbers.items():
                    for sample, value in samples.items():
                        sums[metric][sample] += value
            _put(gone, {"answers": 0, "numbers": _written(sums)})
        file.unlink(missing_ok=True)


def numbers_of(registry: CollectorRegistry) -> Numbers:
    return {metric.name: _numbers_in(metric) for metric in _ours(registry)}


def _ours(registry: CollectorRegistry) -> Iterator[Metric]:
    """What can be added up, which the interpreter's own metrics cannot."""
    return (metric for metric in registry.collect() if metric.name.startswith("dues_"))


def _numbers_in(metric: Metric) -> Samples:
    return {(sample.name, ujson.dumps(sorted(sample.labels.items()))): sample.value for sample in metric.samples}


def _lasting(numbers: Numbers, registry: CollectorRegistry) -> Numbers:
    """Those that stay when their process is gone: all but the gauges, which tell how things stand."""
    gauges = {metric.name for metric in _ours(registry) if metric.type == "gauge"}
    return {name: samples for name, samples in numbers.items() if name not in gauges}


def _written(numbers: Numbers) -> dict[str, list[tuple[str, str, float]]]:
    return {metric: [(*sample, value) for sample, value in samples.items()] for metric, samples in numbers.items()}


def _understood(written: dict[str, list[list[Any]]]) -> Numbers:
    return {metric: {(name, labels): value for name, labels, value in samples} for metric, samples in written.items()}


def _put(file: Path, document: dict[str, Any]) -> None:
    """Have a file hold this, or what it held before. Raises: OSError."""
    new = file.with_suffix(f".{os.getpid()}")
    try:
        new.write_bytes(ujson.dumps(document).encode())
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def _read(file: Path) -> dict[str, Any] | None:
    """None for what is not there, or was not written whole."""
    try:
        document = ujson.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and {"answers", "numbers"} <= document.keys() else None


def _is_alive(file: Path) -> bool:
    return _is_running(file.stem)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ValueError:
        return False
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
