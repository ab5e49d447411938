"""Programs of other projects that long tests use: installed once, kept with what the other tools remember, and anew
when the file that names them has changed."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path


def run(argv: Sequence[object], cwd: Path, **environ: str) -> str:
    """What a program said. Raises: AssertionError with it, where the program failed."""
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


class KeptTools:
    """The folder of one kind of programs."""

    def __init__(self, name: str) -> None:
        self.home = Path(sys.prefix) / "cache" / name

    def keep(self, wanted: Path, name: str, install: Callable[[], None]) -> None:
        """Call `install` unless it has done so with what the file `wanted` says now."""
        self.home.mkdir(parents=True, exist_ok=True)
        mark = self.home / f"{name}.sha256"
        digest = sha256(wanted.read_bytes()).hexdigest()
        if not mark.exists() or mark.read_text() != digest:
            install()
            mark.write_text(digest)
