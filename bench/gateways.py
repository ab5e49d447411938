"""What a gateway, or the edge, adds to a read that Dues has in its cache: the configurations of deploy/ in front of two
web servers, compared with one server requested directly. All of them share one machine."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.contest import DUES, dues_environ
from bench.data import Data, serving_data, store_ids
from bench.load import load
from bench.report import Suite
from bench.rounds import interleave
from bench.servers import serving
from local.ports import free_port
from tests.deploy.gateways import gateway, varnish

_GATEWAYS = {"Caddy": "caddy", "HAProxy": "haproxy", "nginx": "nginx"}
_STORES = 10


def run(rounds: int, seconds: float) -> Suite:
    suite = Suite(
        "Gateways",
        "A page of public packages that Dues has in its cache, from one web server directly, and through each gateway"
        " from two; Varnish answers it itself.",
    )
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(serving_data(10_000, _STORES))
        webs = [_web(stack, data, number) for number in (1, 2)]
        bases = {"direct": f"http://127.0.0.1:{webs[0]}", **_gateways(stack, webs)}
        for title, unit, connections in (
            ("One client, median", "ms", 1),
            ("16 connections", "requests/s", 16),
        ):
            asked = {name: _measure(base, connections, seconds) for name, base in bases.items()}
            suite.table(title, interleave(rounds, asked, unit))
        suite.machine(data)
    return suite


def _web(stack: contextlib.ExitStack, data: Data, number: int) -> int:
    env = {**dues_environ(data), "FORWARDED_ALLOW_IPS": "127.0.0.1"}
    # These allow an edge to cache answers. Nothing changes here, so nothing is purged.
    env |= {"PURGE_URL": "http://127.0.0.1:9/__purge", "PURGE_TOKEN": "nobody-listens-there"}
    base = stack.enter_context(serving(f"dues-{number}", [*DUES, "server:app"], env, "/healthz"))
    return int(base.rpartition(":")[2])


def _gateways(stack: contextlib.ExitStack, webs: list[int]) -> dict[str, str]:
    """The URLs of the gateways that are installed on this machine, by name."""
    found = {}
    for name, program in _GATEWAYS.items():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dues-gateway-")))
        with contextlib.suppress(pytest.skip.Exception):
            found[name] = f"http://127.0.0.1:{stack.enter_context(gateway(program, folder, webs))}"
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dues-edge-")))
    port = free_port()
    with contextlib.suppress(pytest.skip.Exception):
        stack.enter_context(varnish(folder, port, webs))
        found["Varnish"] = f"http://127.0.0.1:{port}"
    return found


def _measure(base: str, connections: int, seconds: float) -> Callable[[], float]:
    paths = [f"/v1/stores/{store}/packages" for store in store_ids(_STORES)]

    def once() -> float:
        result = load(base, paths, seconds=seconds, connections=connections)
        if result.errors:
            raise RuntimeError(f"{base}: {result.errors} requests failed")
        return result.p50 * 1000 if connections == 1 else result.rate

    return once
