"""The packages of requirements-otel.txt, in a folder of their own: were they in the environment, redis-py would import
them in each of the hundred processes that the tests start, and a test of what happens without them could not be."""

import fcntl
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

WANTED = Path(__file__).resolve().parents[2] / "requirements-otel.txt"


def packages() -> Path:
    """The folder, in which what is wanted is installed."""
    folder = Path(sys.prefix) / "cache" / "otel"
    folder.mkdir(parents=True, exist_ok=True)
    pins = "".join(line + "\n" for line in WANTED.read_text().splitlines() if "==" in line)
    mark, file = folder / "installed.txt", folder / "wanted.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_text() != pins:
            file.write_text(pins)
            words = "-m pip install -q --disable-pip-version-check --no-deps --upgrade --target".split()
            subprocess.run([sys.executable, *words, folder, "-r", file], check=True)
            mark.write_text(pins)
    return folder


def imported(module: str) -> Any:
    """A module that needs them."""
    folder = str(packages())
    if folder not in sys.path:
        # What the environment has itself comes first.
        sys.path.append(folder)
    return import_module(module)
