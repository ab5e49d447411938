"""The generators and what they make, run as programs."""

import os
import shutil
import venv
from pathlib import Path

from tests.kept_tools import KeptTools, run

__all__ = ["CALLS", "Tools", "run"]

HERE = Path(__file__).parent
CALLS = HERE / "calls"


class Tools(KeptTools):
    """Programs from PyPI in an environment of their own, and from npm in a folder of theirs."""

    def __init__(self) -> None:
        super().__init__("generators")
        self._bin, self._npm = self.home / "venv" / "bin", self.home / "npm"

    def python(self) -> Path:
        self.keep(HERE / "requirements.txt", "venv", self._install_venv)
        return self._bin / "python"

    def _install_venv(self) -> None:
        venv.create(self.home / "venv", clear=True, with_pip=True)
        run([self._bin / "pip", "install", "-q", "-r", HERE / "requirements.txt"], self.home)

    def program(self, name: str) -> Path:
        self.python()
        return self._bin / name

    def environ(self, **more: str) -> dict[str, str]:
        """Where generators find one another's programs."""
        return {"PATH": f"{self._bin}:{os.environ.get('PATH', os.defpath)}", **more}

    def npm(self) -> Path:
        """The folder with `node_modules`."""
        self.keep(HERE / "package.json", "npm", self._install_npm)
        return self._npm

    def _install_npm(self) -> None:
        shutil.rmtree(self._npm, ignore_errors=True)
        self._npm.mkdir(parents=True)
        shutil.copy(HERE / "package.json", self._npm)
        run(["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"], self._npm)
