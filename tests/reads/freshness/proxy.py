"""A way to Redis that can be cut: bytes go in and nothing comes out, until it is mended."""

import contextlib
import socket
import threading
from pathlib import Path


class Proxy:
    """Listens on a Unix socket and passes everything on to another, both ways."""

    def __init__(self, path: Path, target: str) -> None:
        self.url = f"unix://{path}?db=0"
        self.cut = False
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._target)
                except OSError:
                    client.close()
                    continue
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65536):
                if not self.cut:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
