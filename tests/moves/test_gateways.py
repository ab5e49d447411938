"""The lines by which gateways pass the paths of stores that left on to where these are, read by real gateways."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from dues.moves.gateways import Gateway, gateway_map
from local.gateway import program
from tests.deploy.gateways import find

MOVED = [
    (UUID("01a1f9ce-b82a-7b77-9c1f-f440499ac1ef"), "https://other.example"),
    (UUID("01a1f9ce-b82a-7b77-9c1f-f440499ac1f0"), "http://10.0.0.7:8000"),
]
CADDY = "http://127.0.0.1:8080 {{\n{lines}\nreverse_proxy 127.0.0.1:8001\n}}\n"
NGINX = """
daemon off; pid {folder}/pid; events {{}}
http {{
    access_log off; error_log stderr;
    {lines}
    server {{
        listen 127.0.0.1:8080;
        resolver 127.0.0.1;
        location / {{ if ($dues_moved) {{ proxy_pass $dues_moved; }} proxy_pass http://127.0.0.1:8001; }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 1s
frontend dues
    bind 127.0.0.1:8080
    use_backend %[path,lower,map_beg({folder}/moved.map)] if {{ path,lower,map_beg({folder}/moved.map) -m found }}
    default_backend webs
backend webs
    server web1 127.0.0.1:8001
backend dues_other_example
    server other 127.0.0.1:443 ssl verify none
backend dues_10_0_0_7_8000
    server other 10.0.0.7:8000
"""


def accepts(argv: Sequence[str | Path]) -> None:
    result = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("moved", [[], MOVED], ids=["none", "two"])
@pytest.mark.parametrize("gateway", ["caddy", "nginx", "haproxy"])
def test_a_gateway_takes_the_lines(gateway: Gateway, moved: list[tuple[UUID, str]], tmp_path: Path) -> None:
    lines = gateway_map(gateway, moved)
    for path in ("/v1/stores/", "/v1/gateways/stripe/"):
        assert [f"{path}{store_id}" in lines for store_id, _ in MOVED] == [bool(moved)] * 2
    config = tmp_path / "config"
    (tmp_path / "moved.map").write_text(lines)
    template = {"caddy": CADDY, "nginx": NGINX, "haproxy": HAPROXY}[gateway]
    config.write_text(template.format(lines=lines, folder=tmp_path))
    match gateway:
        case "caddy":
            accepts([program(), "validate", "--adapter", "caddyfile", "--config", config])
        case "nginx":
            accepts([find("nginx"), "-t", "-c", config])
        case "haproxy":
            accepts([find("haproxy"), "-c", "-f", config])
