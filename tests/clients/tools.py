"""The generators and what they make: installed once, kept with what the other tools remember, and run as programs."""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

HERE = Path(__file__).parent
CALLS = HERE / "calls"


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


class Tools:
    """Programs from PyPI in an environment of their own, and from npm in a folder of theirs."""

    def __init__(self) -> None:
        self.home = Path(sys.prefix) / "cache" / "generators"
        self._bin, self._npm = self.home / "venv" / "bin", self.home / "npm"

    def python(self) -> Path:
        wanted = HERE / "requirements.txt"
        if self._is_new(wanted, "venv"):
            venv.create(self.home / "venv", clear=True, with_pip=True)
            run([self._bin / "pip", "install", "-q", "-r", wanted], self.home)
            self._remember(wanted, "venv")
        return self._bin / "python"

    def program(self, name: str) -> Path:
        self.python()
        return self._bin / name

    def environ(self, **more: str) -> dict[str, str]:
        """Where generators find one another's programs."""
        return {"PATH": f"{self._bin}:{os.environ.get('PATH', os.defpath)}", **more}

    def npm(self) -> Path:
        """The folder with `node_modules`."""
        wanted = HERE / "package.json"
        if self._is_new(wanted, "npm"):
            shutil.rmtree(self._npm, ignore_errors=True)
            self._npm.mkdir(parents=True)
            shutil.copy(wanted, self._npm)
            run(["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"], self._npm)
            self._remember(wanted, "npm")
        return self._npm

    def _is_new(self, wanted: Path, name: str) -> bool:
        mark = self.home / f"{name}.sha256"
        return not mark.exists() or mark.read_text() != sha256(wanted.read_bytes()).hexdigest()

    def _remember(self, wanted: Path, name: str) -> None:
        (self.home / f"{name}.sha256").write_text(sha256(wanted.read_bytes()).hexdigest())
