"""The Python client as a package: built, installed into an empty environment and type-checked, in each Python that is
here; and a client that a standard generator makes of the document."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SDK = Path(__file__).resolve().parents[2] / "sdk" / "python"
VERSIONS = [f"3.{minor}" for minor in range(10, 15)]

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(600)]

# What a user may write: it has to run, and to be of the types that it says.
USER = """
from datetime import datetime

import dues_client
from dues_client import AsyncDues, Dues, Money
from dues_client.models import Payment

def failed(dues: Dues, store_id: str) -> list[tuple[Money, datetime, str | None]]:
    return [(p.money, p.created_at, p.failure_code) for p in dues.payments.list(store_id, status="failed")]

async def pay(dues: AsyncDues, store_id: str, package_id: str) -> Payment:
    return await (await dues.payments.create(store_id, package_id=package_id, payment_method="x")).wait()

def report(dues: Dues, store_id: str, when: datetime) -> bytes:
    made = dues.reports.create(store_id, kind="payments", format="csv", from_=when, to=when).wait(on_progress=print)
    return dues.reports.download(store_id, made.id).read()

with Dues("x") as client:
    assert client.last is None and dues_client.__version__ != "0"
"""
WRONG = """
from dues_client import Dues
Dues().payments.list("s", status="succeded")
"""


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """What it says. Raises: AssertionError where it fails, with what it says then."""
    named = [str(word) for word in words]
    done = subprocess.run(named, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def environment(folder: Path, python: str, *packages: str | Path) -> Path:
    """The Python of a new environment with these packages. Skips where there is no such Python."""
    if not (found := interpreter(python)):
        pytest.skip(f"there is no Python {python} here")
    run(found, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", *packages)
    return folder / "bin/python"


def interpreter(version: str) -> str | None:
    for name in (f"python{version}", str(Path.home() / f".pyenv/versions/{version}")):
        if (found := shutil.which(name)) and makes_environments(found):
            return found
    folders = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))
    return str(folders[-1]) if folders else None


def makes_environments(python: str) -> bool:
    """A version manager's stand-in may be there and not work."""
    return not subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a source distribution, as a package index would have both."""
    folder = tmp_path_factory.mktemp("build")
    python = environment(folder / "env", f"3.{sys.version_info[1]}", "build")
    shutil.copytree(SDK, folder / "python", ignore=shutil.ignore_patterns("__pycache__", "dist"))
    run(python, "-m", "build", "--outdir", folder / "dist", folder / "python")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.mark.parametrize("version", VERSIONS)
def test_it_installs_into_an_empty_environment_and_its_types_hold(wheel: Path, version: str, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", version, wheel, "mypy")
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "wrong.py").write_text(WRONG)
    run(python, "-W", "error", "user.py", cwd=tmp_path)
    run(python, "-m", "mypy", "--strict", "user.py", cwd=tmp_path)
    run(python, "-m", "mypy", "--strict", "-p", "dues_client", cwd=tmp_path)
    words = [str(python), "-m", "mypy", "wrong.py"]
    wrong = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "incompatible type" in wrong.stdout


def test_it_needs_one_library(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "env", f"3.{sys.version_info[1]}", wheel)
    code = "from importlib.metadata import requires; print(*requires('dues-client'), sep='\\n')"
    needed = run(python, "-c", code).splitlines()
    assert {re.split(r"[<>=]", line)[0] for line in needed} == {"httpx2", "httpx"}
    assert all("python_version" in line for line in needed), "one of them in each Python"
