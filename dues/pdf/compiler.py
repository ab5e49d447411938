"""The typesetter's process: `python -m dues.pdf.compiler FOLDER…`, with the fonts in those folders.

It reads requests from its standard input and answers on its standard output, one after the other, until its input
ends or nothing was asked of it for a while. A request is `{"document", "data"}`, an answer
`{"size", "substituted", "error"}` and then that many bytes of PDF; in front of each JSON stands its length, four bytes.

Templates are Typst's. What a customer wrote reaches them as data alone, never as source. A template sees no file but
those of this package; there is nothing to be fetched from a network.

A process of its own, because Typst cannot be interrupted, and its threads do not outlive a fork. What a document may
cost is bounded by the kernel: CPU_S of processor time each, MEMORY_BYTES for all.
"""

import base64
import json
import os
import re
import resource
import select
import struct
import sys
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

# One document is no work for several cores; read when Typst first needs its threads.
os.environ["RAYON_NUM_THREADS"] = "1"

import typst

from dues.pdf.fonts import fonts_for

Data = Any  # JSON

ROOT = Path(__file__).resolve().parent.parent
CPU_S = 20
MEMORY_BYTES = 1024**3
IDLE_S = 120.0
# One that has grown beyond this gives its memory back by ending.
KEPT_BYTES = 256 * 1024**2
# Archivable; the first also says what is a heading and what a table, for programs that read aloud. That takes most of
# the file where a document is long.
TAGGED: Literal["a-3a"] = "a-3a"
UNTAGGED: Literal["a-3u"] = "a-3u"

_LENGTH = struct.Struct(">I")
# What Typst says of text that it cannot set, quoted as in its own language.
_UNSET = re.compile(r'(?:the text|disallowed codepoint) `"((?:[^"\\]|\\.)*)"`')
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-f]+)\}|(.))")
# They change how their surroundings are read, up to the next line of a table.
_DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF), "")


class Unsettable(Exception):
    """The typesetter's own words on why there is no document."""


class Document(NamedTuple):
    """What kind of document it is: see `typeset()` in dues/pdf/typesetter.py. `issued_at` is in seconds since 1970,
    `page` what the foot of a page says, `picture` a picture's bytes in base 64, `cpu_s` the processor time that it may
    take."""

    template: str
    issued_at: float
    country: str = ""
    tagged: bool = True
    language: str = "en"
    paper: str = "a4"
    page: str = "Page {page} of {pages}"
    picture: str = ""
    format: Literal["pdf", "png"] = "pdf"
    cpu_s: int = CPU_S


class Compiler:
    """Typst with its fonts loaded and its memory of what it has set before."""

    def __init__(self, folders: list[str]) -> None:
        fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=folders)
        nowhere = str(ROOT / "pdf" / "packages")
        self.compiled = 0
        self._typst = typst.Compiler(
            root=str(ROOT), font_paths=fonts, package_path=nowhere, package_cache_path=nowhere, ignore_system_fonts=True
        )

    def set(self, document: Document, data: Data) -> tuple[bytes, list[str]]:
        """A document that says `data`. Returns: the PDF, and the texts for which no font was found; it shows others in
        their place (`_substitute`). The same arguments give the same bytes. Raises: Unsettable."""
        texts = _each(data, cleaned)
        missing: dict[str, str] = {}
        for _ in range(3):
            try:
                return self._compile(document, texts), list(missing)
            except typst.TypstError as error:
                found = _unset(error)
                if not found:
                    raise Unsettable(error.diagnostic) from None
                missing |= {text: _substitute(text) for text in found}
                texts = _each(texts, partial(_replaced, by=dict(missing)))
        # Never yet seen: what cannot be set appears as something else does not.
        texts = _each(texts, lambda text: "".join(c if c.isascii() else _code_points(c) for c in text))
        return self._compile(document, texts), list(missing)

    def _compile(self, document: Document, data: Data) -> bytes:
        self.compiled += 1
        characters = set(json.dumps(data, ensure_ascii=False))
        issued_at = datetime.fromtimestamp(document.issued_at, UTC)
        inputs = {
            "data": json.dumps(data),
            "fonts": json.dumps([font._asdict() for font in fonts_for(characters, document.country)]),
            "issued_at": json.dumps(issued_at.timetuple()[:6]),
            "language": document.language,
            "paper": document.paper,
            "page": document.page,
            "picture": _numbers(document.picture),
        }
        made = self._typst.compile(
            input=str(ROOT / document.template),
            format=document.format,
            # Of a picture, a dot is a point.
            ppi=72,
            sys_inputs=inputs,
            timestamp=int(document.issued_at),
            pdf_standards=[TAGGED if document.tagged else UNTAGGED],
            pdf_tags=document.tagged,
        )
        assert isinstance(made, bytes)
        return made


def _numbers(picture: str) -> str:
    """A picture's bytes as a template can read them."""
    return json.dumps(list(base64.b64decode(picture)))


def cleaned(text: str) -> str:
    """`text` in one line, without what cannot be seen and what turns the direction of others' text."""
    kept = unicodedata.normalize("NFC", text.translate(_DIRECTIONS))
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in kept).split())


def _each(data: Data, change: Callable[[str], str]) -> Data:
    """`data` with every text changed; the names of members stay."""
    match data:
        case str():
            return change(data)
        case list():
            return [_each(item, change) for item in data]
        case dict():
            return {name: _each(value, change) for name, value in data.items()}
    return data


def _unset(error: typst.TypstError) -> list[str]:
    return [_ESCAPE.sub(_unescaped, text) for text in _UNSET.findall(error.diagnostic)]


def _unescaped(found: "re.Match[str]") -> str:
    return chr(int(found[1], 16)) if found[1] else {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}.get(found[2], found[2])


def _replaced(text: str, by: dict[str, str]) -> str:
    for old, new in by.items():
        text = text.replace(old, new)
    return text


def _substitute(text: str) -> str:
    """What can be read in the place of a text: its plain form, as of the letters that mathematicians use, or its code
    points."""
    plain = unicodedata.normalize("NFKC", text)
    return plain if plain != text else _code_points(text)


def _code_points(text: str) -> str:
    return "[" + " ".join(f"U+{ord(c):04X}" for c in text) + "]"


def serve(compiler: Compiler, requests: RawIOBase, answers: BinaryIO) -> None:
    """Until the requests end, none comes for IDLE_S, or a large one has been answered."""
    while select.select([requests], [], [], IDLE_S)[0] and (length := _read(requests, _LENGTH.size)):
        request = json.loads(_read(requests, *_LENGTH.unpack(length)))
        document = Document(**request["document"])
        _allow_processor_time(document.cpu_s)
        pdf, answer = b"", {"substituted": [], "error": ""}
        try:
            pdf, answer["substituted"] = compiler.set(document, request["data"])
        except (Unsettable, RuntimeError) as error:
            answer["error"] = str(error)[:2000]
        head = json.dumps(answer | {"size": len(pdf)}).encode()
        answers.write(_LENGTH.pack(len(head)) + head + pdf)
        answers.flush()
        if _held_bytes() > KEPT_BYTES:
            return


def _held_bytes() -> int:
    """What this process holds in memory. Linux counts in `ru_maxrss` also what held the process that started it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(requests: RawIOBase, size: int) -> bytes:
    """As many bytes, or fewer where the input ends."""
    read = bytearray()
    while len(read) < size and (chunk := requests.read(size - len(read))):
        read += chunk
    return bytes(read)


def _allow_processor_time(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, most))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Unbuffered, so that select() knows of all that has come.
    with open(0, "rb", buffering=0) as requests, open(1, "wb") as answers:
        serve(Compiler(sys.argv[1:]), requests, answers)
