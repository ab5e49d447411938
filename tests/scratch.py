"""Where tests put what they throw away."""

import os
import tempfile

import psutil

_IN_MEMORY = "/dev/shm"
# What four processes of tests have there at most, and as much again for all else that runs.
_ROOM = 8 * 1024**3


def use_memory() -> None:
    """Have temporary folders in memory where it has room, unless TMPDIR says where they are to be. The databases of
    tests are thousands of files that are made and deleted again, for which a disk takes three to six times as long."""
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = tempfile.tempdir = _IN_MEMORY


def _has_room() -> bool:
    try:
        found = os.statvfs(_IN_MEMORY)
    except OSError:
        return False
    # Programs are run from there as well.
    is_usable = os.access(_IN_MEMORY, os.W_OK | os.X_OK) and not found.f_flag & os.ST_NOEXEC
    return is_usable and min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available / 2) > _ROOM
