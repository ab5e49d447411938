"""The servers that are compared, each started on the same core, with the same PostgreSQL and Redis."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.machine import SERVER_CORE, pinned

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "bench"


def peer_python() -> Path:
    """The interpreter of the peers' environment, which is created if it is missing or out of date."""
    wanted = (ROOT / "bench" / "requirements.txt").read_text()
    venv, stamp = HOME / "venv", HOME / "venv" / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing what the peers run on …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(ROOT / "bench/requirements.txt")]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    return venv / "bin" / "python"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(name: str, argv: list[str], env: dict[str, str], ready: str, cwd: Path = ROOT) -> Iterator[str]:
    """Run a server, pinned to its core, until the block ends. `{port}` in `argv` and `env` is replaced.

    Yields its base URL once the path `ready` is answered with a status below 500. Raises: RuntimeError if it does not
    start.
    """
    port = free_port()
    argv = [part.format(port=port) for part in argv]
    env = {**os.environ, **{key: value.format(port=port) for key, value in env.items()}}
    HOME.mkdir(parents=True, exist_ok=True)
    with open(HOME / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            pinned(SERVER_CORE, argv), env=env, cwd=cwd, stdout=log, stderr=log, start_new_session=True
        )
    base = f"http://127.0.0.1:{port}"
    try:
        _wait(name, process, base + ready)
        yield base
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(name: str, process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    log = (HOME / f"{name}.log").read_text(errors="replace")[-3000:]
    raise RuntimeError(f"{name} did not start:\n{log}")
