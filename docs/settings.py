"""Writes the README's table of settings from the server's own model of them: `.venv/bin/python docs/settings.py`."""

from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- settings: docs/settings.py -->\n", "<!-- end of settings -->\n"


def table() -> str:
    """Markdown, a row for each setting."""
    head = "| option | default | meaning |\n|---|---|---|\n"
    return head + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def updated(readme: str) -> str:
    """The README with the table as it should be."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


def _row(name: str, field: FieldInfo) -> str:
    meaning = field.description or ""
    if get_origin(field.annotation) is Literal:
        meaning += f" (one of {', '.join(get_args(field.annotation))})"
    meaning = meaning.replace("<", "&lt;").replace("|", "\\|")
    return f"| `--{name.replace('_', '-')}` | {_default(field.default)} | {meaning} |\n"


def _default(value: object) -> str:
    if isinstance(value, Path):
        value = Path(*value.parts[-2:])  # of the zoo, wherever the project lies
    if isinstance(value, tuple):
        value = ",".join(value)
    return "" if value is None or value == {} else f"`{value}`"


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
