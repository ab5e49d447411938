"""The scripts that Redis runs, each in one piece: nothing else happens meanwhile."""

from hashlib import sha1
from pathlib import Path


class Script:
    """A script of `scripts/`, called by the SHA-1 that Redis knows it by."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "scripts" / f"{name}.lua").read_bytes()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()


ESTABLISH, JOIN, LOOK, TOUCH = SCRIPTS = Script("establish"), Script("join"), Script("look"), Script("touch")
