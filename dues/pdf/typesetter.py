"""Setting documents: the one function that does, and the process behind it (dues/pdf/compiler.py).

Each process of Dues that sets documents has one of its own, started with the first and kept for the next. One that
dies (of a document beyond its bounds, say) fails that document and is started anew for the next.
"""

import atexit
import base64
import json
import logging
import os
import select
import struct
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dues.pdf.fonts import folders
from dues.pdf.language import Language, Paper, words_of
from dues.settings import settings

log = logging.getLogger("dues.pdf")

_PROJECT = Path(__file__).resolve().parent.parent.parent
_LENGTH = struct.Struct(">I")
# It is the processor time that is bounded (compiler.CPU_S): this is for a machine that has no time to give.
_LONGEST_S = 120.0
# How long a picture waits for the process, which may be at another one, and the processor time that it may take.
_PICTURE_PATIENCE_S, _PICTURE_CPU_S = 1.0, 5


class TypesettingFailed(Exception):
    """There is no document; the message is the typesetter's and may hold what the document says."""


class TypesetterBusy(Exception):
    """The process was at something else all the time."""


class _Idle(Exception):
    """The process had ended before it was asked, because nothing was asked of it."""


def typeset(
    template: str,
    data: Mapping[str, Any],
    issued_at: datetime,
    *,
    country: str = "",
    tagged: bool = True,
    language: Language = "en",
    paper: Paper = "a4",
    logo: bytes = b"",
) -> bytes:
    """A document as PDF/A.

    `template` is a path below dues/, `data` what it shows, of JSON's types. `issued_at` is the document's date.
    `country` (ISO 3166) says whose way of writing Chinese characters is meant, `language` in which its own words are.
    `tagged`: with its structure, for programs that read aloud. `logo` is a picture that `redraw()` has made. The same
    arguments give the same bytes. A text for which there is no font is shown by its code points, and its script is
    named in the log. Needs an application context.
    Raises: TypesettingFailed.
    """
    document = {
        "template": template,
        "issued_at": issued_at.timestamp(),
        "country": country,
        "tagged": tagged,
        "language": language,
        "paper": paper,
        "page": words_of(language).page(),
        "picture": base64.b64encode(logo).decode(),
    }
    pdf, substituted = _process(settings().fonts_dir).ask({"document": document, "data": data})
    if substituted:
        log.warning("%s: no font has %s; put one into FONTS_DIR", template, _scripts(substituted))
    return pdf


def redraw(picture: bytes) -> bytes:
    """A picture, PNG or JPEG, as PNG: nothing but its dots, and of those no more than a logo needs. It is decoded in
    the typesetter's process, within its bounds, one picture after the other. Needs an application context. Raises:
    TypesettingFailed; TypesetterBusy, where it has no time for another."""
    document = {
        "template": "pdf/templates/picture.typ",
        "issued_at": 0,
        "picture": base64.b64encode(picture).decode(),
        "format": "png",
        "cpu_s": _PICTURE_CPU_S,
    }
    drawn, _ = _process(settings().fonts_dir).ask({"document": document, "data": {}}, _PICTURE_PATIENCE_S)
    return drawn


def _scripts(texts: list[str]) -> str:
    """What scripts the texts are in: not what they say, which may be a person's name."""
    names = {unicodedata.name(character, "UNKNOWN").split()[0].title() for text in texts for character in text}
    return ", ".join(sorted(names))


class _Process:
    """The typesetter's process, as its parent sees it. One exchange at a time."""

    def __init__(self, fonts_dir: str) -> None:
        self.owner = os.getpid()
        self._command = [sys.executable, "-m", "dues.pdf.compiler", *folders(fonts_dir)]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Mapping[str, Any], patience_s: float | None = None) -> tuple[bytes, list[str]]:
        """Raises: TypesetterBusy where others are still at it after `patience_s`."""
        with self._lock if patience_s is None else self._turn(patience_s):
            try:
                return self._exchange(request)
            except _Idle:
                return self._exchange(request)

    @contextmanager
    def _turn(self, patience_s: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=patience_s):
            raise TypesetterBusy
        try:
            yield
        finally:
            self._lock.release()

    def _exchange(self, request: Mapping[str, Any]) -> tuple[bytes, list[str]]:
        process = self._process or self._start()
        asked = json.dumps(request).encode()
        try:
            self._write(process, _LENGTH.pack(len(asked)) + asked)
            answer = json.loads(self._read(process, *_LENGTH.unpack(self._read(process, _LENGTH.size))))
            pdf = self._read(process, answer["size"])
        except BaseException:
            # Whatever is left of its answer must not be taken for the next one.
            self.end()
            raise
        if answer["error"]:
            raise TypesettingFailed(answer["error"])
        return pdf, answer["substituted"]

    def _start(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            self._command,
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            # What is sent to the terminal's processes is for its parent to act upon.
            process_group=0,
        )
        return self._process

    def _write(self, process: "subprocess.Popen[bytes]", data: bytes) -> None:
        assert process.stdin
        try:
            view = memoryview(data)
            while view:
                view = view[process.stdin.write(view) :]
        except BrokenPipeError:
            raise self._why(process) from None

    def _read(self, process: "subprocess.Popen[bytes]", size: int) -> bytes:
        assert process.stdout
        read, ready = bytearray(), select.poll()
        ready.register(process.stdout, select.POLLIN)
        while len(read) < size:
            if not ready.poll(_LONGEST_S * 1000):
                raise TypesettingFailed(f"the typesetter did not answer for {_LONGEST_S:.0f} s")
            chunk = process.stdout.read(size - len(read))
            if not chunk:
                raise self._why(process)
            read += chunk
        return bytes(read)

    def _why(self, process: "subprocess.Popen[bytes]") -> Exception:
        code = process.wait()
        return _Idle() if code == 0 else TypesettingFailed(f"the typesetter ended with {code}")

    def end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.stdout.close()
        if self.owner == os.getpid():
            process.kill()
            process.wait()
        else:
            # A forked child has its parent's process, and nothing to say to it.
            process.returncode = 0


_processes: dict[str, _Process] = {}


def _process(fonts_dir: str) -> _Process:
    kept = _processes.get(fonts_dir)
    if kept is None or kept.owner != os.getpid():
        if kept:
            kept.end()
        kept = _processes[fonts_dir] = _Process(fonts_dir)
    return kept


@atexit.register
def _end_all() -> None:
    for process in _processes.values():
        process.end()
