"""Load from wrk, pinned to the core that the server does not use."""

import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from bench.machine import LOAD_CORE, pinned

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

# Requests the given lines one after the other: a path, optionally followed by a space and the ETag that the client has.
_GET = """
local requests = {}
local n = 0
function init(args)
  for line in io.lines(args[1]) do
    local path, etag = line:match("^(%S+) ?(.*)$")
    local headers = {}
    for name, value in pairs(wrk.headers) do headers[name] = value end
    if etag ~= "" then headers["If-None-Match"] = etag end
    requests[#requests + 1] = wrk.format("GET", path, headers, nil)
  end
end
function request()
  n = n % #requests + 1
  return requests[n]
end
"""
# The same for requests with a body, each with a new Idempotency-Key.
_POST = """
local paths = {}
local n = 0
local run = ""
function init(args)
  for line in io.lines(args[1]) do paths[#paths + 1] = line end
  run = args[2]
  wrk.body = args[3]
end
function request()
  n = n + 1
  wrk.headers["Idempotency-Key"] = run .. "-" .. n
  return wrk.format("POST", paths[n % #paths + 1])
end
"""


@dataclass(frozen=True)
class Result:
    """Requests per second, latencies in seconds, and the number of failed requests: neither 2xx nor 3xx, or cut off."""

    rate: float
    p50: float
    p99: float
    errors: int


def require_wrk() -> None:
    """Install wrk if it is missing. Raises: SystemExit if that is not possible."""
    if shutil.which("wrk"):
        return
    if shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-qq", "-y", "wrk"], check=False, stdout=sys.stderr)
    if not shutil.which("wrk"):
        sys.exit("the benchmarks need the load generator wrk on PATH (Debian: apt-get install wrk)")


def load(
    base: str, paths: list[str], *, seconds: float, connections: int = 16, headers: dict[str, str] | None = None
) -> Result:
    """Request `paths` in turn over kept-alive connections for some seconds. A path may be followed by a space and an
    ETag, which is then sent as If-None-Match."""
    return _wrk(_GET, [], base, paths, seconds, connections, headers or {})


def post(
    base: str, paths: list[str], body: str, *, seconds: float, connections: int = 16, headers: dict[str, str]
) -> Result:
    """The same with POST, sending `body` each time under a new Idempotency-Key."""
    headers = {"Content-Type": "application/json", **headers}
    return _wrk(_POST, [uuid4().hex, body], base, paths, seconds, connections, headers)


def _wrk(
    text: str,
    arguments: list[str],
    base: str,
    paths: list[str],
    seconds: float,
    connections: int,
    headers: dict[str, str],
) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        script, lines = Path(folder, "requests.lua"), Path(folder, "paths")
        script.write_text(text)
        lines.write_text("\n".join(paths))
        argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script)]
        for name, value in headers.items():
            argv += ["-H", f"{name}: {value}"]
        argv += [base, "--", str(lines), *arguments]
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
