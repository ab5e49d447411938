"""What the command line remembers between two commands: where it has logged in, as whom, and a store."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


def _file() -> Path:
    if named := os.environ.get("DUES_CONFIG"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "dues" / "config.json"


@dataclass
class Config:
    url: str = "http://127.0.0.1:8000"
    token: str = ""
    token_id: str = ""
    store: str = ""

    @classmethod
    def read(cls) -> "Config":
        try:
            found = json.loads(_file().read_text())
        except FileNotFoundError:
            return cls()
        except ValueError:
            raise OSError(f"{_file()} is not readable: remove it, and log in again") from None
        return cls(**{name: str(found.get(name, "")) for name in cls.__dataclass_fields__})

    def write(self) -> None:
        """For its owner's eyes only."""
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(file.name + ".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            json.dump(asdict(self), out)
        part.replace(file)
