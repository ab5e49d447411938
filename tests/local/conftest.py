"""What tests of `bin/run` share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Home


@pytest.fixture
def home() -> Iterator[Path]:
    """A DUES_HOME, in a folder of its own for what is beside it."""
    folder = Home()
    home = folder.path / "var"
    home.mkdir(mode=0o711)
    yield home
    folder.remove()
