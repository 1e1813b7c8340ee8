"""Writes docs/settings.md from the server's own model of its settings: `.venv/bin/python docs/settings.py`."""

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from models.command_line import flag
from service.config.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "settings.md"

HEAD = """# Settings

Written by `.venv/bin/python docs/settings.py` from the code, and held against it by a test.

`--port 9000`, or `RESNET_SERVE_PORT=9000`, or `port = 9000` in a TOML file that `--config` names; a flag comes
before a variable, both before the file. An unknown flag, `RESNET_SERVE_*` variable or name in the file is an error.
`resnet-serve health`, with the same flags, variables or file, tells by its exit code whether that server can take
work now. Which of them to think about: [operations](operations.md#the-settings-that-matter).

| option | default | meaning |
|---|---|---|
"""


def document() -> str:
    """Markdown, with a row for each setting."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or ""
    if get_origin(field.annotation) is Literal:
        meaning += f" (one of {', '.join(get_args(field.annotation))})"
    meaning = meaning.replace("<", "&lt;").replace("|", "\\|")
    return f"| `{flag(name)}` | {_default(field.default)} | {meaning} |\n"


def _default(value: object) -> str:
    if isinstance(value, Path):
        value = Path(*value.parts[-2:])  # of the zoo, wherever the project lies
    if isinstance(value, tuple):
        value = ",".join(value)
    return "" if value is None or value == {} else f"`{value}`"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
