"""The Dockerfile and deploy/compose.yaml: what is copied is all that runs, and settings are those that there are."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Settings, load_settings
from dues.vault import new_key
from tests.deploy.gateways import DEPLOY, ROOT
from tests.observability.otel import packages
from tests.servers import Servers

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def copied() -> list[str]:
    """What the image's last stage takes from the project."""
    stage = DOCKERFILE.rpartition("\nFROM ")[2]
    lines = re.findall(r"^COPY (?!--from)(.+)$", stage, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def pinned(name: str) -> set[str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE)
    return {line.lower().replace("_", "-") for line in lines}


@pytest.mark.parametrize(
    "requirements", ["requirements.txt", pytest.param("requirements-otel.txt", marks=pytest.mark.wide)]
)
def test_the_image_holds_all_that_runs_and_needs_only_what_is_pinned_for_it(
    servers: Servers, tmp_path: Path, requirements: str
):
    """In a folder of what is copied, without the packages that only bin/run and the tests have."""
    has_traces = requirements == "requirements-otel.txt"
    if has_traces:
        assert "-r requirements.txt\n" in (ROOT / requirements).read_text()
        traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": str(packages())}
    else:
        traces = {}
    for source in copied():
        kept = ROOT / source
        (shutil.copytree if kept.is_dir() else shutil.copy)(kept, tmp_path / kept.name)
    image = pinned("requirements.txt") | pinned(requirements)
    foreign = sorted(
        module
        for module, distributions in packages_distributions().items()
        if not {name.lower().replace("_", "-") for name in distributions} & image
        and module not in ("pip", "_distutils_hack")
    )
    assert {"pytest", "psutil", "aiosmtpd", "yaml"} <= set(foreign)
    program = f"""
import sys
class Foreign:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(foreign)!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Foreign())
sys.argv = ["gunicorn", "server:app"]
import runpy, importlib, pathlib
runpy.run_path("gunicorn.conf.py")
importlib.import_module("server")
for path in sorted(pathlib.Path("workers").glob("*.py")):
    importlib.import_module(f"workers.{{path.stem}}")
from wsgi import app
said = app.test_cli_runner().invoke(args=["jobs", "--help"])
assert said.exit_code == 0, said.output
from dues.observability import otel, trace
otel.start_spans()
assert (trace._exporter is not None) is {has_traces}
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        cwd=tmp_path,
        env=servers.environ(DUES_HOME=str(tmp_path / "home"), PYTHONDONTWRITEBYTECODE="1", **traces),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_the_image_is_slim_and_runs_as_nobody_in_particular():
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.11-slim-bookworm"] * 2
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert "requirements-run" not in DOCKERFILE
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    variants = {"requirements.txt", "requirements-otel.txt"}
    assert set(allowed) == {*copied(), *variants}
    # Built without arguments it is without traces, and each variant's file is there to be installed.
    assert re.findall(r"^ARG (.+)$", DOCKERFILE, re.MULTILINE) == ["REQUIREMENTS=requirements.txt"]
    (files,) = re.findall(r"^COPY (requirements.+) /requirements/$", DOCKERFILE, re.MULTILINE)
    assert set(files.split()) == variants
    assert '-r "/requirements/$REQUIREMENTS"' in DOCKERFILE


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose("compose.yaml")


def read_compose(name: str) -> dict[str, Any]:
    """A compose file, filled in with what its example of settings has."""
    text = (DEPLOY / name).read_text()
    example = (DEPLOY / "compose.env.example").read_text()
    env = dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.MULTILINE))
    env = {name: value.strip('"') or "x" * 64 for name, value in env.items()} | {"SECRETS_KEYS": new_key()}
    # Every variable without a default is in the example.
    missing = set(re.findall(r"\$\{([A-Z_]+)(?!:-)[:}]", text)) - env.keys() - {"DUES_RELEASE"}
    assert missing == set()
    filled = re.sub(r"\$\{([A-Z_]+)(?::([?-])([^}]*))?\}", lambda found: str(env.get(found[1], found[3] or "")), text)
    found: dict[str, Any] = yaml.safe_load(filled)
    return found


def test_compose_gives_settings_that_are_right(compose: dict[str, Any]):
    known = {field.upper() for field in Settings.__struct_fields__}
    ours = {name: service for name, service in compose["services"].items() if "build" in service}
    assert ours.keys() == {"web-1", "web-2", "worker", "relay", "release"}
    for service in ours.values():
        assert set(service["environment"]) <= known | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
        assert service["build"]["args"] == {"REQUIREMENTS": "requirements.txt"}
        # Else whoever pays by the sandbox, which charges nobody, is a member.
        assert load_settings(service["environment"]).environment == "production"
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_compose_holds_together(compose: dict[str, Any]):
    services = compose["services"]
    for service in services.values():
        assert "build" in service or re.search(r":v?\d", service["image"])
        assert set(service.get("depends_on", ())) <= services.keys()
        assert set(service["networks"]) <= compose["networks"].keys()
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).exists() if source.startswith("./") else source in compose["volumes"]
    # The gateway alone is reached from outside, and alone in the network whose word the web servers take.
    outside = {
        name
        for name, service in services.items()
        if any(not port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    }
    assert outside == {"gateway"}
    assert {name for name, service in services.items() if "edge" in service["networks"]} == {
        "gateway",
        "web-1",
        "web-2",
    }
    [edge] = compose["networks"]["edge"]["ipam"]["config"]
    assert services["web-1"]["environment"]["FORWARDED_ALLOW_IPS"] == edge["subnet"]
    upstreams = services["gateway"]["environment"]["DUES_WEBS"].split()
    assert [upstream.partition(":")[0] for upstream in upstreams] == ["web-1", "web-2"]


def test_citus_takes_the_place_of_postgresql(compose: dict[str, Any]):
    """`deploy/citus/compose.yaml` goes on top of the other file."""
    above = read_compose("citus/compose.yaml")
    services, base = above["services"], compose["services"]
    for name, service in services.items():
        below = base.get(name, {})
        assert "image" in service or "build" in below
        assert set(service.get("depends_on", ())) <= services.keys() | base.keys()
        assert set(service.get("networks", ())) <= compose["networks"].keys()
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in above["volumes"]
        if "build" in below:
            load_settings(below["environment"] | service["environment"])
    assert {name for name, service in base.items() if "build" in service} == {
        name for name, service in services.items() if service.get("environment", {}).get("DB_PREPARE") == "false"
    }
    [image] = {service["image"] for service in services.values() if "image" in service}
    assert re.search(r":\d", image)
    added = " ".join(services["citus-nodes"]["command"])
    assert set(re.findall(r"citus_add_node\('([^']+)'", added)) == services.keys() - base.keys() - {"citus-nodes"}
    assert "citus_set_coordinator_host('postgres', 5432)" in added
    assert services["release"]["command"][-1].endswith("flask --app wsgi shards distribute")
