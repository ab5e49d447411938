"""`python -m sdk.generator`: write the generated files of the clients, or with `--check` say which are out of date."""

import sys
from pathlib import Path

from api.app import MODULES
from api.openapi.document import build_document
from sdk.generator.python import formatted, python_groups, python_models
from sdk.generator.shapes import read_document
from sdk.generator.typescript import typescript
from sdk.generator.unasync import blocking

SDK = Path(__file__).resolve().parents[1]
_PYTHON = SDK / "python" / "src" / "dues_client"
_TYPESCRIPT = SDK / "typescript" / "src"
_BLOCKING = "# Made from ../_async by `python -m sdk.generator`: change it there.\n"


def generate() -> dict[Path, str]:
    """Every generated file, with what is to be in it."""
    shapes = read_document(build_document(MODULES))
    groups = python_groups(shapes)
    files = {_PYTHON / "models.py": python_models(shapes), _PYTHON / "_async" / "groups.py": groups}
    for source in sorted((_PYTHON / "_async").glob("*.py")):
        text = groups if source.name == "groups.py" else source.read_text()
        files[_PYTHON / "_sync" / source.name] = formatted(_BLOCKING + blocking(text))
    moves_money = sorted(
        f"{route.method} {route.path}" for module in MODULES for route in module.all if route.moves_money
    )
    return files | {_TYPESCRIPT / "generated.ts": typescript(shapes, moves_money)}


def outdated() -> list[Path]:
    """The generated files that are not as they would be made now."""
    return [file for file, text in generate().items() if not file.exists() or file.read_text() != text]


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        for file in (found := outdated()):
            sys.stderr.write(f"out of date: {file.relative_to(SDK.parent)}\n")
        return 1 if found else 0
    for file, text in generate().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
