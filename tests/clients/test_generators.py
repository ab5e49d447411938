"""Clients that generators make of the OpenAPI document: typed as strictly as their languages can, and used.

Left out of the plain run: `bin/test --generators` installs the generators from PyPI and npm. What needs Java, Node.js
or Go is skipped where that is missing.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.app import MODULES
from api.openapi.document import build_document
from dues.imports.upload import FORMATS
from tests.clients.tools import CALLS, Tools, run
from tests.servers import Servers
from tests.webserver import WebServer
from tests.workers.conftest import Processes, processes

__all__ = ["processes"]

pytestmark = [pytest.mark.generators, pytest.mark.timeout(900)]

STRICT = ("--strict", "--target", "es2022", "--lib", "es2022,dom", "--types", "node")
BUNDLED = (*STRICT, "--noEmit", "--module", "esnext", "--moduleResolution", "bundler")


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"there is no {program}")


@pytest.fixture(scope="module")
def tools() -> Tools:
    return Tools()


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(json.dumps(build_document(MODULES)))
    return path


@pytest.fixture
def url(servers: Servers, processes: Processes) -> Iterator[str]:
    """A server with its workers."""
    processes.start_both("critical:1,default:1,slow:1")
    with WebServer(servers) as web:
        yield web.url


def generate(tools: Tools, document: Path, language: str, target: Path) -> str:
    """By openapi-generator. Returns: what it said."""
    argv = [tools.program("openapi-generator-cli"), "generate", "-i", document, "-g", language, "-o", target]
    return run(argv, document.parent)


def test_openapi_python_client(tools: Tools, document: Path, url: str, tmp_path: Path) -> None:
    target, calls = tmp_path / "client", CALLS / "with_openapi_python_client.py"
    # A file of rows is bytes to it once it is told so, as the guide says.
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"content_type_overrides": dict.fromkeys(FORMATS, "application/octet-stream")}))
    argv = [tools.program("openapi-python-client"), "generate", "--path", document, "--output-path", target]
    argv += ["--config", settings]
    said = run([*argv, "--fail-on-warning"], tmp_path, **tools.environ())
    assert "WARNING" not in said
    run([tools.program("mypy"), "--strict", "--cache-dir", tmp_path / "mypy", ".", calls], target, MYPYPATH=str(target))
    assert run([tools.python(), calls, url], tmp_path, PYTHONPATH=str(target)) == "12 calls\n"


@needs("java")
def test_openapi_generator_for_python(tools: Tools, document: Path, url: str, tmp_path: Path) -> None:
    target, calls = tmp_path / "client", CALLS / "with_openapi_generator.py"
    generate(tools, document, "python", target)
    # What it makes is not typed strictly by itself; what stands on it can be.
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = true\n[mypy-openapi_client.*]\nignore_errors = true\n")
    argv = [tools.program("mypy"), "--config-file", settings, "--cache-dir", tmp_path / "mypy", calls]
    run(argv, target, MYPYPATH=str(target))
    assert run([tools.python(), calls, url], tmp_path, PYTHONPATH=str(target)) == "12 calls\n"


@needs("node")
def test_openapi_typescript(tools: Tools, document: Path, url: str, tmp_path: Path) -> None:
    npm = tools.npm()
    shutil.copy(npm / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(npm / "node_modules")
    shutil.copy(CALLS / "with_openapi_typescript.ts", tmp_path / "calls.ts")
    programs = npm / "node_modules" / ".bin"
    run([programs / "openapi-typescript", document, "-o", tmp_path / "dues.d.ts"], tmp_path)
    strict = (*STRICT, "--noUncheckedIndexedAccess", "--module", "nodenext", "--outDir", "out")
    run([programs / "tsc", *strict, "calls.ts"], tmp_path)
    assert run(["node", "out/calls.js", url], tmp_path) == "12 calls\n"


@needs("java")
@needs("node")
@pytest.mark.parametrize("language", ["typescript-fetch", "typescript-axios"])
def test_openapi_generator_for_typescript(tools: Tools, document: Path, tmp_path: Path, language: str) -> None:
    target, npm = tmp_path / "client", tools.npm()
    generate(tools, document, language, target)
    (tmp_path / "node_modules").symlink_to(npm / "node_modules")
    run([npm / "node_modules" / ".bin" / "tsc", *BUNDLED, target / "index.ts"], tmp_path)


@needs("java")
@pytest.mark.parametrize("language", ["go", "java"])
def test_openapi_generator_makes_a_class_of_each_tag(
    tools: Tools, document: Path, tmp_path: Path, language: str
) -> None:
    """Of two that it calls alike one would overwrite the other, without a word but a warning."""
    said = generate(tools, document, language, tmp_path / "client")
    assert "COLLISION" not in said
    made = {path.stem.lower().replace("_", "") for path in (tmp_path / "client").rglob("*") if "pi" in path.stem}
    for module in MODULES:
        assert made & {f"api{module.name}", f"{module.name}api"}, module.name
    if language == "go" and shutil.which("go"):
        run(["go", "vet", "./..."], tmp_path / "client")
