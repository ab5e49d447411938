"""The gateways of deploy/, started for real in front of servers on this machine."""

import contextlib
import http.client
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from local.gateway import Gateway, program
from local.ports import free_ports
from tests.servers import running, wait_until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
# A key and a certificate in one file.
PEM = ROOT / "tests" / "mail" / "localhost.pem"


@contextlib.contextmanager
def caddy(home: Path, webs: Sequence[int]) -> Iterator[Gateway]:
    port, tls_port = free_ports(2)
    with running(gateway := Gateway(home, port, tls_port, webs)):
        yield gateway


def reload_caddy(gateway: Gateway) -> None:
    """Have a running Caddy read its configuration anew."""
    how = gateway.prepare()
    argv = [str(program()), "reload", *how.argv[2:], "--force", "--address", how.env["CADDY_ADMIN"].partition("|")[0]]
    subprocess.run(argv, check=True, capture_output=True, env=dict(how.env), timeout=60)


def find(name: str) -> str:
    """A program's path. Skips the test where there is none."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return found or pytest.skip(f"there is no {name} on this machine")


def haproxy_config(folder: Path, port: int, tls_port: int, webs: Sequence[int]) -> Path:
    return fitted(
        DEPLOY / "haproxy" / "haproxy.cfg",
        folder / "haproxy.cfg",
        {
            "bind :80\n": f"bind 127.0.0.1:{port}\n",
            "bind :443 ssl crt /etc/haproxy/dues.pem": f"bind 127.0.0.1:{tls_port} ssl crt {PEM}",
            "    server web1 127.0.0.1:8001\n": "",
            "    server web2 127.0.0.1:8002\n": "".join(f"    server web{at} 127.0.0.1:{at}\n" for at in webs),
        },
    )


def nginx_config(folder: Path, port: int, tls_port: int, webs: Sequence[int]) -> Path:
    site = fitted(
        DEPLOY / "nginx" / "dues.conf",
        folder / "dues.conf",
        {
            "listen 80;": f"listen 127.0.0.1:{port};",
            "listen 443": f"listen 127.0.0.1:{tls_port}",
            "/etc/nginx/dues.pem": str(PEM),
            "    server 127.0.0.1:8001 max_fails=3 fail_timeout=2s;\n": "",
            "    server 127.0.0.1:8002 max_fails=3 fail_timeout=2s;\n": "".join(
                f"    server 127.0.0.1:{at} max_fails=3 fail_timeout=2s;\n" for at in webs
            ),
        },
    )
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; pid {folder}/pid; events {{}}\nhttp {{ include {site}; }}\n")
    return config


def fitted(source: Path, target: Path, changes: Mapping[str, str]) -> Path:
    """A configuration with the addresses of a test in place of its own."""
    text = source.read_text()
    for old, new in changes.items():
        assert old in text, f"{source} has no {old!r} any more"
        text = text.replace(old, new)
    target.write_text(text)
    return target


@contextlib.contextmanager
def serving(argv: Sequence[str], port: int, log: Path) -> Iterator[int]:
    """A program that serves HTTP on `port`."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output)
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, 20, argv[0])
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    return False


def log_of(name: str, folder: Path) -> Path:
    """The file that a gateway which `gateway()` has started writes its log to."""
    return folder / "log" / "gateway.log" if name == "caddy" else folder / f"{name}.log"


PURGE_TOKEN = "a-token-that-the-edge-knows"


@contextlib.contextmanager
def varnish(folder: Path, port: int, webs: Sequence[int]) -> Iterator[None]:
    """Varnish in front of one or two web servers. Skips the test where there is none, or none with the modules."""
    varnishd, log = find("varnishd"), folder / "varnish.log"
    ports = {'"8001"': f'"{webs[0]}"', '"8002"': f'"{webs[-1]}"'}
    vcl = fitted(DEPLOY / "varnish" / "dues.vcl", folder / "dues.vcl", ports)
    words = f"-F -a 127.0.0.1:{port} -p http_gzip_support=off -j none -s malloc,16m"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [varnishd, *words.split(), "-f", vcl, "-n", folder / "n"],
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/bin:/bin:/usr/sbin", "DUES_PURGE_TOKEN": PURGE_TOKEN},
        )
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, 30, "Varnish")
        said = log.read_text()
        if process.poll() is not None and "vmod" in said.lower() and "no such file" in said.lower():
            pytest.skip("this machine's Varnish lacks xkey or var")
        assert process.poll() is None, said
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def gateway(name: str, folder: Path, webs: Sequence[int]) -> Iterator[int]:
    """The HTTP port of a gateway by its name; skips the test where this machine has no such program."""
    port, tls_port = free_ports(2)
    if name == "caddy":
        with running(Gateway(folder, port, tls_port, webs, {"DUES_TRY_FOR": "1s"})):
            yield port
    elif name == "haproxy":
        argv = [find("haproxy"), "-db", "-f", str(haproxy_config(folder, port, tls_port, webs))]
        with serving(argv, port, folder / "haproxy.log"):
            yield port
    else:
        argv = [find("nginx"), "-c", str(nginx_config(folder, port, tls_port, webs))]
        with serving(argv, port, folder / "nginx.log"):
            yield port
