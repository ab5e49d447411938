"""The settings as files for people, which a test holds equal to them: `python -m config_pages > docs/settings.md` and
`python -m config_pages env > .env.example`."""

import shlex
import sys

import msgspec

from config import Settings, description


def settings_page() -> str:
    """The settings as a Markdown page."""
    rows = ["# Settings", "", "Written by `python -m config_pages`; each is an environment variable.", ""]
    rows += ["| variable | default | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        default = "required" if field.required else f"`{field.default}`" if field.default != "" else ""
        rows.append(f"| `{field.name.upper()}` | {default} | {description(field)} |")
    return "\n".join(rows) + "\n"


def env_example() -> str:
    """The settings as a file of environment variables; those that have a default are commented out."""
    lines = ["# Written by `python -m config_pages env`; see docs/settings.md."]
    for field in msgspec.structs.fields(Settings):
        default = "" if field.required else field.default
        assignment = f"{field.name.upper()}={shlex.quote(str(default)) if default != '' else ''}"
        lines += ["", f"# {description(field)}", assignment if field.required else f"# {assignment}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(env_example() if sys.argv[1:] == ["env"] else settings_page(), end="")
