"""What a server's processes count, whichever of them is asked; and that nothing which only measures harms a server."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dues.observability.exchange import Exchange, fold, prepare
from tests.servers import Servers, wait_until
from tests.webserver import WebServer


class Process:
    """A process that counts. It is not this one: its file is that of another, which can be killed."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("dues_requests", "requests", ("route",), registry=self.registry)
        self.open = Gauge("dues_open", "open connections", registry=self.registry)
        self.seconds = Histogram("dues_seconds", "durations", registry=self.registry, buckets=(1, 2))
        self._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.pid = self._process.pid
        self.exchange = Exchange(folder, self.registry, self.pid)

    def count(self, requests: int, opened: int) -> None:
        self.requests.labels("/a").inc(requests)
        self.seconds.observe(1.5)
        self.open.set(opened)

    def kill(self) -> None:
        """Its thread, which is one of this process, writes no more either."""
        self.exchange.write = lambda: None  # type: ignore[method-assign]
        with self.exchange._lock:
            self._process.kill()
        self._process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert prepare(tmp_path / "metrics-1-1")
    return tmp_path / "metrics-1-1"


@pytest.fixture
def processes(folder: Path) -> Iterator[list[Process]]:
    """Two that count, the second of which answers when it is asked."""
    found = [Process(folder), Process(folder)]
    found[1].exchange.start()
    yield found
    for process in found:
        process.kill()


def shown(exchange: Exchange) -> dict[str, float]:
    whole = CollectorRegistry()
    whole.register(exchange.collect())
    families = text_string_to_metric_families(generate_latest(whole).decode())
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_whoever_is_asked_shows_what_all_have_counted(processes: list[Process]) -> None:
    one, other = processes
    one.count(2, opened=3)
    other.count(5, opened=4)
    expected = {
        "dues_requests_total /a": 7,
        "dues_open": 7,
        "dues_seconds_bucket 1.0": 0,
        "dues_seconds_bucket 2.0": 2,
        "dues_seconds_count": 2,
        "dues_seconds_sum": 3,
        "dues_metrics_unreadable_files": 0,
    }
    assert shown(one.exchange).items() >= expected.items()
    other.count(1, opened=0)
    assert shown(one.exchange)["dues_requests_total /a"] == 8


def test_what_a_process_has_shown_outlives_it(processes: list[Process]) -> None:
    one, other = processes
    one.count(2, opened=0)
    assert shown(one.exchange)["dues_requests_total /a"] == 2
    one.kill()
    assert shown(other.exchange)["dues_requests_total /a"] == 2


def test_counts_outlive_their_process_and_what_it_had_open_does_not(folder: Path, processes: list[Process]) -> None:
    one, other = processes
    one.count(2, opened=3)
    other.count(5, opened=4)
    other.exchange.write()
    other.kill()
    assert shown(one.exchange)["dues_requests_total /a"] == 7
    assert shown(one.exchange)["dues_open"] == 3
    for _ in range(2):
        fold(folder, other.pid)
        assert shown(one.exchange)["dues_requests_total /a"] == 7
        assert shown(one.exchange)["dues_open"] == 3
        assert not (folder / f"{other.pid}.json").exists()


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xff\xff\x7f", b'{"answers":1,"numbers":{"dues_open":[[', b"[]", b'{"numbers":{}}'], ids=str
)
def test_a_torn_file_is_passed_over_and_counted(folder: Path, processes: list[Process], data: bytes) -> None:
    """As a process leaves it that is killed while it writes, and as a full disk does."""
    one, other = processes
    one.count(2, opened=1)
    other.count(5, opened=1)
    (folder / "99999.json").write_bytes(data)
    found = shown(one.exchange)
    assert (found["dues_requests_total /a"], found["dues_metrics_unreadable_files"]) == (7, 1)
    fold(folder, 99999)
    assert shown(one.exchange)["dues_metrics_unreadable_files"] == 0


def test_where_nothing_can_be_written_each_shows_its_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "metrics-1-1"
    assert not prepare(folder)
    process = Process(folder)
    process.count(2, opened=1)
    for _ in range(3):
        process.exchange.write()
    fold(folder, process.pid)
    assert shown(process.exchange)["dues_requests_total /a"] == 2
    assert len(caplog.records) == 1
    process.kill()


def test_a_server_that_starts_removes_the_folders_of_those_that_are_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = tmp_path / f"metrics-8000-{os.getpid()}", tmp_path / f"metrics-8001-{gone.pid}"
    for other in (*kept, tmp_path / f"metrics-8000-{gone.pid}"):
        other.mkdir()
    assert prepare(tmp_path / "metrics-8000-1")
    assert {file.name for file in tmp_path.iterdir()} == {*(each.name for each in kept), "metrics-8000-1"}


def ask(web: WebServer, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def counted(web: WebServer) -> float:
    """The answers that were no resource."""
    status, text = ask(web, "/metrics")
    assert status == 200
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "dues_http_request_duration_seconds_count" and sample.labels["status"] == "404"
    )


def test_two_processes_and_those_after_them_count_together(servers: Servers, tmp_path: Path) -> None:
    with WebServer(servers, WEB_CONCURRENCY="2", DUES_HOME=str(tmp_path)) as web:
        for _ in range(40):
            assert ask(web, "/v1/nothing")[0] == 404
        wait_until(lambda: counted(web) == 40, what="all to be counted")
        before = web.children()
        web.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(web.children()) == 2 and not web.children() & before, 60, "other processes")
        assert counted(web) == 40
        (folder,) = tmp_path.glob("metrics-*")
        assert {file.stem for file in folder.glob("*.json")} <= {"gone", *map(str, web.children())}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk with room for little, as root can make one."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a disk to fill")
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> None:
    with (folder / "fill").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


@pytest.mark.parametrize("full_from", ["the start", "later"])
def test_a_full_disk_stops_no_server(servers: Servers, tmp_path: Path, full_from: str) -> None:
    with small_disk(tmp_path / "disk") as disk:
        if full_from == "the start":
            fill(disk)
        with WebServer(servers, WEB_CONCURRENCY="2", DUES_HOME=str(disk), FILES_DIR=str(tmp_path)) as web:
            if full_from == "later":
                assert counted(web) == 0
                fill(disk)
            before = web.children()
            for number in range(10):
                assert ask(web, f"/v1/nothing?{number}")[0] == 404
                assert ask(web, "/v1/stores")[0] == 200
                assert ask(web, "/metrics")[0] == 200
            assert web.children() == before
            (disk / "fill").unlink()
            if full_from == "later":
                wait_until(lambda: counted(web) == 10, what="room again")
