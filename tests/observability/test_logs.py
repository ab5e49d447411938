"""Log lines: JSON, complete, without secrets; never waited for; none lost when a process ends or forks."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dues.observability.logs import Lines, log_fields
from dues.observability.metrics import LOG_LINES_DROPPED
from dues.observability.trace import tracing

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Log:
    """A logger of the test's own that writes to `output`."""

    def __init__(self, output: int, **options: int) -> None:
        self.handler = Lines(output, **options)
        self.logger = logging.getLogger(f"test.{id(self)}")
        self.logger.setLevel("DEBUG")
        self.logger.propagate = False
        self.logger.addHandler(self.handler)


class LogFile(Log):
    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    def lines(self) -> list[dict[str, Any]]:
        self.handler.flush()
        return [json.loads(line) for line in self._path.read_bytes().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> LogFile:
    return LogFile(tmp_path / "log")


def test_a_line_is_one_object_with_what_was_said(log):
    log.logger.warning("built %s", "it", extra={"rows": 3, "where": {"store": "a/b"}})
    (line,) = log.lines()
    assert line.pop("ts").endswith("+00:00")
    assert line == {
        "level": "warning",
        "logger": log.logger.name,
        "message": "built it",
        "pid": os.getpid(),
        "rows": 3,
        "where": {"store": "a/b"},
    }


def test_lines_say_what_they_belong_to(log):
    with log_fields(request_id="r1"), tracing(TRACE):
        with log_fields(job_id="j1"):
            log.logger.info("inner")
        log.logger.info("outer")
    log.logger.info("after")
    inner, outer, after = log.lines()
    assert (inner["request_id"], inner["job_id"]) == ("r1", "j1")
    assert (outer["request_id"], outer["trace_id"]) == ("r1", "0af7651916cd43dd8448eb211c80319c")
    assert "job_id" not in outer
    assert not {"request_id", "trace_id"} & set(after)


def test_an_exception_is_told_with_its_trace_on_one_line(log):
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.logger.exception("failed")
    (line,) = log.lines()
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"\xff", object(), "\ud800", {"a": float("inf")}, 10**400])
def test_what_is_no_json_is_written_as_text(log, value):
    log.logger.info("odd", extra={"value": value})
    (line,) = log.lines()
    assert line["message"] == "odd"
    assert "value" in line


@pytest.mark.parametrize(
    "said",
    [
        "token dues_" + "Ab3-_" * 9,
        "Authorization: Bearer abcdefgh12345678",
        "authorization: Basic dXNlcjpodW50ZXIyCg==",
        "cannot reach postgresql://dues:hunter2hunter2@db/dues",
        "redis://:hunter2hunter2@cache:6379/0 is away",
    ],
)
def test_secrets_are_not_written_wherever_they_stand(log, said):
    secret = said.split("_", 1)[1] if "dues_" in said else said.split()[-1] if "ization" in said else "hunter2hunter2"
    log.logger.info(said, extra={"also": [said]})
    try:
        raise RuntimeError(said)
    except RuntimeError:
        log.logger.exception("failed")
    text = json.dumps(log.lines())
    assert secret not in text
    assert "***" in text


def test_names_that_merely_look_like_tokens_stay(log):
    log.logger.info("dues_estimated_rows at postgresql://db:5432/dues")
    assert log.lines()[0]["message"] == "dues_estimated_rows at postgresql://db:5432/dues"


def test_a_reader_that_stalls_costs_lines_and_never_time():
    reader, writer = os.pipe()
    log = Log(writer, longest_queue=50)
    before = LOG_LINES_DROPPED._value.get()
    began = time.monotonic()
    for number in range(5000):
        log.logger.info("x" * 1000, extra={"number": number})
    assert time.monotonic() - began < 30
    dropped = LOG_LINES_DROPPED._value.get() - before
    assert dropped > 4000

    with os.fdopen(reader, "rb") as stream:
        lines = (json.loads(line) for line in stream)
        received = [next(lines) for _ in range(5000 - int(dropped))]
        log.logger.info("again")
        received.append(next(lines))
    assert received[-1]["message"] == "again"
    assert sum(line.get("dropped_before", 0) for line in received) == dropped


def test_threads_do_not_tear_each_others_lines(log):
    def write(name: str) -> None:
        for number in range(100):
            log.logger.info("x" * 50, extra={"by": name, "number": number})

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    received = log.lines()
    assert len(received) == 400
    for name in range(4):
        assert [line["number"] for line in received if line["by"] == str(name)] == list(range(100))


def run(program: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


START = """
import logging, os, sys
from dues.observability.logs import start_logging
start_logging("info")
log = logging.getLogger("dues.test")
"""


def test_nothing_is_lost_when_a_process_ends():
    found = run(START + "for n in range(2000): log.info('line', extra={'n': n})\nsys.exit(0)")
    assert [line["n"] for line in found] == list(range(2000))


def test_a_forked_child_writes_its_own_lines_and_the_parents_only_once():
    program = """
for n in range(500): log.info('parent', extra={'n': n})
pid = os.fork()
if pid == 0:
    for n in range(500): log.info('child', extra={'n': n})
    logging.shutdown()
    os._exit(0)
os.waitpid(pid, 0)
log.info('end')
"""
    found = run(START + program)
    for who in ("parent", "child"):
        assert [line["n"] for line in found if line["message"] == who] == list(range(500))
    assert len({line["pid"] for line in found}) == 2
    assert found[-1]["message"] == "end"


def test_of_libraries_only_warnings_are_wanted():
    program = """
logging.getLogger('alembic.runtime').info('chatter')
logging.getLogger('alembic.runtime').warning('trouble')
log.debug('detail')
log.info('news')
"""
    assert [line["message"] for line in run(START + program)] == ["trouble", "news"]
