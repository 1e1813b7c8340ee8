"""`resnet-serve`, as a shell runs it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.service.served import DEADLINE_S, environment

ROOT = Path(__file__).resolve().parents[3]


def resnet_serve(*arguments: str | Path, cwd: Path, columns: int = 300) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that must not crash."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=cwd,
        env=environment(COLUMNS=str(columns), PYTHONPATH=str(ROOT), TERM="dumb"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table, without its frame and head."""
    lines = [re.split("[│┃|]", line)[1:-1] for line in table.splitlines() if re.match("^[│┃|]", line)]
    return [[cell.strip() for cell in line] for line in lines][1:]
