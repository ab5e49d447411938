"""The typesetter's process: kept for the next document, never in the way of the one after it."""

import inspect
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from flask import Flask

from dues.pdf import compiler, typesetter
from dues.pdf.typesetter import TypesettingFailed, typeset
from dues.settings import settings
from tests.pdf.test_compiler import TEMPLATE, shown
from tests.pdf_reader import PDF
from tests.typesetter_stand_in import TypesetterStandIn

AT = datetime(2026, 11, 20, 14, 39, tzinfo=UTC)


@pytest.fixture
def in_app(app: Flask) -> Iterator[None]:
    # One that has set a large report would end with its next document.
    typesetter._end_all()
    with app.app_context():
        yield


def receipt(**texts: str) -> bytes:
    return typeset(TEMPLATE, shown(**texts), AT)  # type: ignore[arg-type]


def pid() -> int:
    """Of the process that set the last document."""
    (kept,) = typesetter._processes.values()
    assert kept._process
    return kept._process.pid


def test_its_process_loads_no_more_than_it_needs():
    loaded = "import sys, dues.pdf.compiler; print({'flask', 'sqlalchemy', 'babel', 'psycopg2'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout
    assert said == "set()\n"


def test_one_process_sets_many_documents(in_app: None):
    assert receipt() == receipt()
    first = pid()
    assert "Ada" in PDF(receipt(payer="Ada")).text()
    assert pid() == first


def test_what_stands_in_for_it_elsewhere_is_asked_and_answers_alike(in_app: None, monkeypatch: pytest.MonkeyPatch):
    true, stand_in = typesetter._process(""), TypesetterStandIn()
    assert inspect.signature(stand_in.ask) == inspect.signature(true.ask)
    for one in (true, stand_in):
        monkeypatch.setattr(typesetter, "_process", lambda _, one=one: one)
        assert receipt() == receipt()
        assert receipt(payer="Ada") != receipt(payer="Bea")
        assert (PDF(receipt()).pages, PDF(receipt()).size()) == (1, (595, 842))
        with pytest.raises(TypeError):
            receipt(payer=object())  # type: ignore[arg-type]


def test_the_documents_date_is_its_own(in_app: None):
    assert PDF(receipt()).metadata()["CreationDate"].startswith("D:20261120143900")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGXCPU, signal.SIGSEGV])
def test_one_that_dies_fails_its_document_and_the_next_is_set(in_app: None, sign: signal.Signals):
    receipt()
    os.kill(pid(), sign)
    with pytest.raises(TypesettingFailed, match=str(-sign)):
        receipt()
    assert receipt()


def test_one_that_had_ended_for_want_of_work_is_started_anew(in_app: None, monkeypatch: pytest.MonkeyPatch):
    receipt()
    first = pid()
    kept = typesetter._process("")
    assert kept._process
    assert kept._process.stdin
    # Its input ends, as after IDLE_S nothing comes: it goes in peace.
    kept._process.stdin.close()
    assert kept._process.wait() == 0
    with open(os.devnull, "wb", buffering=0) as nobody:
        kept._process.stdin = nobody
        assert receipt()
    assert pid() != first


def test_what_is_wrong_with_a_template_is_said(in_app: None):
    with pytest.raises(TypesettingFailed, match='key "seller"'):
        typeset(TEMPLATE, {"title": "Receipt", "number": "1"}, AT)
    assert receipt()


def test_a_forked_process_has_a_typesetter_of_its_own(in_app: None):
    expected, first = receipt(), pid()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if receipt() == expected and pid() != first else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert receipt() == expected
    assert pid() == first


def test_an_interrupted_exchange_is_not_taken_for_the_next_one(in_app: None):
    receipt(payer="Before")

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Interrupted):
            _set_for_ever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "After" in PDF(receipt(payer="After")).text()


def _set_for_ever() -> None:
    while True:
        receipt(payer="Interrupted", description="漢" * 500)


def test_a_script_without_a_font_is_named_in_the_log_and_the_name_is_not(
    in_app: None, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, "dues.pdf"):
        assert "[U+12000]" in PDF(receipt(payer="𒀀 secret")).text()
    (line,) = caplog.messages
    assert "Cuneiform" in line
    assert "FONTS_DIR" in line
    assert "secret" not in line


def test_a_picture_waits_for_nobody_else_for_long(in_app: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(typesetter, "_PICTURE_PATIENCE_S", 0.01)
    with typesetter._process(settings().fonts_dir)._lock, pytest.raises(typesetter.TypesetterBusy):
        typesetter.redraw(b"a picture")


def test_a_process_that_has_grown_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiler, "KEPT_BYTES", 0)
    # It serves in this process, which would be killed once it has taken so much time of the processor.
    monkeypatch.setattr(compiler, "_allow_processor_time", lambda seconds: None)
    requests_read, requests = os.pipe()
    answers, answers_write = os.pipe()
    with open(requests, "wb", buffering=0) as asked, open(requests_read, "rb", buffering=0) as read:
        request = b'{"document": {"template": "x.typ", "issued_at": 0}, "data": {}}'
        asked.write(compiler._LENGTH.pack(len(request)) + request)
        with open(answers_write, "wb") as written:
            compiler.serve(compiler.Compiler([]), read, written)
    with open(answers, "rb") as answered:
        assert b"No such file" in answered.read()
