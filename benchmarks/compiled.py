"""The server as an installation has it, with compiled modules: what is measured and tested as a server is this."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

PARTS = ("setup.py", "models", "service")
LOG = "build.log"


class NotCompiledError(RuntimeError):
    """There is no C compiler, or it cannot compile."""


def python_path(home: Path, *, is_compiled: bool = True) -> str:
    """PYTHONPATH with which `python -P -m service` runs what an installation of this checkout would, or its sources.

    NotCompiledError.
    """
    packages = [str(compiled(home))] if is_compiled else []
    inherited = filter(None, [os.environ.get("PYTHONPATH")])
    return os.pathsep.join([*packages, str(home), *inherited])


@cache
def compiled(home: Path) -> Path:
    """A folder with copies of the checkout's packages, compiled; made once for each state of them. NotCompiledError."""
    if not (home / "setup.py").exists():  # a revision that is older than that
        return home
    found = [path for part in PARTS for path in (home / part, *sorted((home / part).rglob("*")))]
    files = [path for path in found if path.is_file() and path.suffix != ".pyc"]
    digest = hashlib.sha256(f"{sys.version} mypy {version('mypy')}".encode())
    for path in files:
        digest.update(bytes(path.relative_to(home)) + path.read_bytes())
    kept = home / "build" / "compiled"
    kept.mkdir(parents=True, exist_ok=True)
    folder = kept / digest.hexdigest()[:16]
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            shutil.rmtree(unfinished := kept / "unfinished", ignore_errors=True)
            for path in files:
                (copy := unfinished / path.relative_to(home)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
            _compile(unfinished)
            unfinished.rename(folder)
    return folder


def _compile(folder: Path) -> None:
    with (folder / LOG).open("w") as log:
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=True)
    if not list(folder.glob("*.so")):
        raise NotCompiledError(f"nothing is compiled, see {folder / LOG}: Debian's gcc and python3-dev are needed")
