"""What lies in deploy/ is read by the programs that it is for."""

import subprocess
from pathlib import Path

import pytest

from local.gateway import program
from tests.deploy.gateways import DEPLOY, find, haproxy_config, nginx_config


def check(*argv: str | Path, **env: str) -> str:
    ran = subprocess.run(
        [str(word) for word in argv],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": "/nonexistent", **env},
    )
    said = ran.stdout + ran.stderr
    assert ran.returncode == 0, said
    return said


@pytest.mark.parametrize("name", ["Caddyfile", "local.Caddyfile"])
def test_caddy(name: str, tmp_path: Path):
    config = DEPLOY / "caddy" / name
    env = {"HOME": str(tmp_path), "DUES_HOME": str(tmp_path), "PORT": "8000", "TLS_PORT": "8443"}
    said = check(program(), "adapt", "--config", config, "--adapter", "caddyfile", "--validate", **env)
    assert "/readyz?ignore=redis" in said


def test_caddy_before_cells(tmp_path: Path):
    config = DEPLOY / "cells" / "Caddyfile"
    said = check(program(), "adapt", "--config", config, "--adapter", "caddyfile", "--validate", HOME=str(tmp_path))
    assert "/cells/question" in said


@pytest.mark.parametrize(
    "config", sorted([*(DEPLOY / "caddy").iterdir(), *(DEPLOY / "cells").iterdir()]), ids=lambda path: path.name
)
def test_caddy_s_files_are_as_caddy_writes_them(config: Path):
    formatted = subprocess.run([program(), "fmt", str(config)], check=False, capture_output=True, text=True, timeout=60)
    assert formatted.stdout == config.read_text()


def test_haproxy(tmp_path: Path):
    check(find("haproxy"), "-c", "-f", haproxy_config(tmp_path, 8080, 8443, [8001, 8002]))


def test_haproxy_before_patroni():
    check(find("haproxy"), "-c", "-f", DEPLOY / "patroni" / "haproxy.cfg")


def test_nginx(tmp_path: Path):
    check(find("nginx"), "-t", "-c", nginx_config(tmp_path, 8080, 8443, [8001, 8002]))


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("DUES_WEBS", "", "wrong argument count"),
        ("DUES_TRY_FOR", "5", "duration"),
        ("DUES_MAX_BODY", "lots", "max_size"),
    ],
)
def test_caddy_does_not_start_with_a_variable_that_is_wrong(variable: str, value: str, said: str, tmp_path: Path):
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), variable: value}
    config = str(DEPLOY / "caddy" / "Caddyfile")
    argv = [str(program()), "adapt", "--config", config, "--adapter", "caddyfile", "--validate"]
    ran = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60, env=env)
    assert ran.returncode == 1
    assert said in ran.stderr.lower()
