"""Writes docs/errors.md, the table of all error texts, from the code: `.venv/bin/python docs/errors.py`."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "errors.md"

HEAD = """# Every error text

Written by `.venv/bin/python docs/errors.py` from the code, and held against it by a test. "…" is what was found: a name
or a number. A flag that does not exist, lacks its value or has one of another type is told in a line of its own,
with what is allowed.
"""

PROGRAMS = {
    "`resnet-train`": ("training",),
    "Released models, in both programs": ("models",),
    "`resnet-serve`, at its start and in the shell": (
        "service/cli.py",
        "service/config/settings.py",
        "service/config/setting_types.py",
        "service/config/service_links.py",
        "service/config/settings_file.py",
        "service/catalog/repository.py",
        "service/catalog/repository_place.py",
        "service/catalog/shadow_version.py",
        "service/remote",
        "service/commands",
        "service/auth/keys.py",
        "service/auth/tls.py",
        "service/http/ports.py",
        "service/http/acceptor.py",
    ),
    "Changes of the models that are served, in the answer, the log and `GET /models`": (
        "service/supervisor",
        "service/catalog/shadow_version.py",
    ),
    "Answers of the server": (
        "service/catalog/catalog.py",
        "service/routes",
        "service/http",
        "service/parsing",
        "service/prediction",
        "service/batching",
        "service/auth",
    ),
}
"""Sections of the document, and the code whose errors are in them: each file is in the first that names it."""


class ErrorText(NamedTuple):
    """A text, the class of its error, and the file that has it."""

    error: str
    text: str
    file: str


@cache
def error_classes() -> frozenset[str]:
    """Return the names of all classes of errors that the code defines, and those of pydantic's that users see."""
    files = (file for folder in ("models", "service", "training") for file in (ROOT / folder).rglob("*.py"))
    classes = [
        node for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ClassDef)
    ]
    bases = {node.name: {base.id for base in node.bases if isinstance(base, ast.Name)} for node in classes}
    errors: set[str] = set()
    while found := {name for name, of in bases.items() if of & (errors | {"Exception", "ValueError"})} - errors:
        errors |= found
    return frozenset(errors | {"ValueError", "SettingsError"})


def texts(folder: str) -> Iterator[ErrorText]:
    """Yield each error text in a file, or in all files of a folder, in their order."""
    path = ROOT / folder
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        tree = ast.parse(file.read_text())
        constants = dict(_constants(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := _error_name(node.func)) and node.args:
                text = max((_read(argument, constants) for argument in node.args), key=len)
                if text.strip("… "):
                    yield ErrorText(name, text, str(file.relative_to(ROOT)))


def document() -> str:
    """Return the document as it should be."""
    seen: set[ErrorText] = set()
    lines = [HEAD]
    for section, places in PROGRAMS.items():
        lines.append(f"## {section}\n\n| error | text | in |\n|---|---|---|")
        for each in (each for place in places for each in texts(place)):
            if each not in seen:
                seen.add(each)
                lines.append(f"| {each.error} | {_escaped(each.text)} | `{each.file}` |")
        lines.append("")
    return "\n".join(lines)


def _error_name(function: ast.expr) -> str:
    name = function.id if isinstance(function, ast.Name) else ""
    return name if name in error_classes() else ""


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names and texts of a module's own constants."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() as text)):
                yield name, text


def _read(node: ast.expr, constants: Mapping[str, str]) -> str:
    """What an expression reads like, with "…" for each value."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name) | ast.FormattedValue(value=ast.Name(id=name)) if name in constants:
            return constants[name]
        case ast.JoinedStr(values=parts):
            return re.sub("…+", "…", "".join(_read(part, constants) for part in parts))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _read(left, constants) + _read(right, constants)
    return "…"


def _escaped(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    DOCUMENT.write_text(document())
