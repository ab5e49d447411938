"""`bin/run --cells`: cells of the Dues that it runs, which is their directory, and Caddy in front of all of them."""

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dues.cells.signatures import derived_key
from local import folders
from local.gateway import CONFIG, Gateway
from local.postgres import Postgres
from local.process import Program
from local.valkey import Valkey

MOST_CELLS = 8

_SNIPPETS = CONFIG.parent.parent / "cells" / "cells.caddy"
_LOOPBACK = "127.0.0.1"


class CellsGateway(Gateway):
    """Caddy with deploy/cells/cells.caddy. `directory` is the port of the directory's web server, `cells` those of the
    cells', by their names."""

    def __init__(
        self,
        home: Path,
        port: int,
        tls_port: int,
        directory: int,
        cells: Mapping[str, int],
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(home, port, tls_port, [directory], env)
        self.cells = dict(cells)

    def _config(self) -> Path:
        directory = f"{_LOOPBACK}:{self.webs[0]}"
        cells = [f"\t\timport dues_cell {name} {_LOOPBACK}:{port}\n" for name, port in self.cells.items()]
        lines = [
            "\timport dues_edge\n\troute {\n",
            f"\t\timport dues_question {directory}\n",
            *cells,
            f"\t\timport dues_directory {directory}\n",
            "\t}\n\timport dues_errors\n",
        ]
        text = CONFIG.read_text().replace("import dues.caddy", f"import {_SNIPPETS}")
        path = self._folder / "cells.Caddyfile"
        folders.write_whole(path, text.replace("\timport dues\n", "".join(lines)))
        return path


@dataclass(frozen=True)
class Cell:
    """A Dues with PostgreSQL and Valkey of its own, whose web server listens on `port`."""

    name: str
    home: Path
    port: int

    def servers(self) -> tuple[list[Program], dict[str, str]]:
        """What it stands on, and the settings for them."""
        self.home.mkdir(parents=True, exist_ok=True)
        postgres, valkey = Postgres(self.home), Valkey(self.home)
        programs = [self.named(server.prepare()) for server in (postgres, valkey)]
        return programs, {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}

    def settings(self, directory: Mapping[str, str]) -> dict[str, str]:
        """Those that it has not in common with its directory, whose settings are given."""
        return {
            "DUES_HOME": str(self.home),
            "PORT": str(self.port),
            "CELLS": "",
            "CELL": f"{self.name}=http://{_LOOPBACK}:{directory['PORT']}",
            "CELLS_KEY": derived_key(directory["CELLS_KEY"], self.name),
            # Those of the directory are not this one's.
            "CACHE_REDIS_URL": "",
            "DATABASE_REPLICA_URLS": "",
            "FILES_DIR": "",
        }

    def named(self, program: Program) -> Program:
        return replace(program, name=f"{self.name}-{program.name}")


def plan_cells(home: Path, ports: list[int]) -> list[Cell]:
    """A cell for each port."""
    return [Cell(name, home / "cells" / name, port) for name, port in zip(string.ascii_lowercase, ports, strict=False)]


def told_to_the_directory(cells: list[Cell]) -> str:
    """The directory's setting CELLS."""
    return " ".join(f"{cell.name}=http://{_LOOPBACK}:{cell.port}" for cell in cells)
