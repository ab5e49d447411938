"""Load from wrk, pinned to the core that the server does not have."""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.machine import LOAD_CORE, pinned

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

# Walks through the URLs it is given, each connection from its own place, and counts statuses.
_SCRIPT = """
local paths = {}
local n = 0
function init(args)
  for line in io.lines(args[1]) do paths[#paths + 1] = wrk.format("%(method)s", line, nil, %(body)s) end
  n = math.random(#paths)
end
function request()
  n = n + 1
  if n > #paths then n = 1 end
  return paths[n]
end
local bad = {}
function response(status)
  if status >= 400 then bad[status] = (bad[status] or 0) + 1 end
end
"""


@dataclass(frozen=True)
class Result:
    """Requests a second, latencies in seconds, and answers that were not 2xx or 3xx."""

    rate: float
    p50: float
    p99: float
    errors: int


def require_wrk() -> None:
    """Raises: SystemExit where wrk is neither installed nor installable."""
    if shutil.which("wrk"):
        return
    if shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qq", "-y", "wrk"], check=False, stdout=sys.stderr)
    if not shutil.which("wrk"):
        sys.exit("the benchmarks need the load generator wrk on PATH (Debian: apt-get install wrk)")


def load(
    base: str, paths: list[str], *, seconds: float, connections: int = 16, headers: dict[str, str] | None = None
) -> Result:
    """Ask for `paths` in turn over kept-alive connections for some seconds."""
    with tempfile.TemporaryDirectory() as folder:
        script, urls = Path(folder, "walk.lua"), Path(folder, "urls")
        script.write_text(_SCRIPT % {"method": "GET", "body": "nil"})
        urls.write_text("\n".join(paths))
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script)]
        for name, value in (headers or {}).items():
            argv += ["-H", f"{name}: {value}"]
        argv += [base, "--", str(urls)]
        answer = subprocess.run(pinned(LOAD_CORE, argv), capture_output=True, text=True, check=True)
    return _read(answer.stdout)


def _read(text: str) -> Result:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rate is None:
        raise RuntimeError(f"wrk said: {text}")
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    sockets = re.search(r"Socket errors: (.*)", text)
    failed = sum(int(n) for n in re.findall(r"\d+", sockets[1])) if sockets else 0
    return Result(
        float(rate[1]), _latency(text, "50%"), _latency(text, "99%"), failed + (int(errors[1]) if errors else 0)
    )


def _latency(text: str, percentile: str) -> float:
    found = re.search(rf"\s{percentile}\s+([\d.]+)(us|ms|s|m)", text)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
