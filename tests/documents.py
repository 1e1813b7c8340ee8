"""Documents whose shell blocks are run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.service.served import environment

ROOT = Path(__file__).resolve().parent.parent
URL = "http://127.0.0.1:8000"

_BLOCK = re.compile(r"```sh\n(.*?)```\n(?:\n```(json|text)\n(.*?)```\n)?", re.DOTALL)


class Block(NamedTuple):
    """A shell block, with the answer that follows it, if one does."""

    script: str
    kind: str | None
    answer: str | None


def blocks(text: str) -> list[Block]:
    """All shell blocks of a Markdown document, in order."""
    return [Block(*match.groups()) for match in _BLOCK.finditer(text)]


def imitate_checkout(folder: Path, *names: str) -> Path:
    """Make of a folder the checkout as commands see it, with these of its files; what they write there does no harm."""
    for name in names:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def run(script: str, folder: Path) -> str:
    """Run a shell script that must succeed; what it prints."""
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
