"""What docs/webhooks.md says is so."""

import re
from pathlib import Path
from typing import Any

from dues.events import EVENT_TYPES
from tests.webhooks.hooks import Hooks

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def test_its_example_verifies_what_arrives(hooks: Hooks):
    [example] = [code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "def is_ours" in code]
    names: dict[str, Any] = {}
    exec(example, names)
    is_ours = names["is_ours"]
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    [call] = hooks.receiver.calls
    assert is_ours(endpoint["secret"], call.headers, call.body)
    assert not is_ours(endpoint["secret"], call.headers, call.body + b" ")
    assert not is_ours(endpoint["secret"], {**call.headers, "webhook-timestamp": "1"}, call.body)


def test_its_table_has_every_type():
    named = re.findall(r"`([a-z]+\.[a-z_]+)`", GUIDE.partition("## What arrives")[0])
    assert sorted(named) == sorted(EVENT_TYPES)
