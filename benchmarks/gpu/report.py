"""Results as they come: a file for each subject, written anew after each row: what is stopped leaves its rows."""

import json
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.surroundings import ROOT, training_surroundings

PACKAGES = ("torch", "torchvision", "triton", "onnxruntime", "onnxruntime-gpu", "onnx", "litserve", "pillow", "numpy")
_CARD = "name,memory.total,driver_version,power.limit,clocks.max.sm,clocks.max.mem"
_TOLD = 600  # characters of an error


class RowWriter:
    """One subject's rows, by section; each is kept and printed at once."""

    def __init__(self, folder: Path, subject: str, method: str) -> None:
        self._path = folder / f"gpu-{subject}.json"
        self._document: dict[str, Any] = {
            **training_surroundings(f"benchmarks.gpu {subject}", PACKAGES),
            "gpu": _card(),
            "sources_sha256": _sources(),
            "method": method,
            "results": {},
        }

    def add(self, section: str, **row: str | float) -> None:
        """Keep a row."""
        self._document["results"].setdefault(section, []).append(row)
        self._path.write_text(json.dumps(self._document, indent=1) + "\n")
        print(f"{section}: {', '.join(f'{name} {_short(value)}' for name, value in row.items())}", flush=True)

    def fail(self, section: str, error: Exception, **row: str | float) -> None:
        """Keep what did not work, and go on."""
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.add(section, **row, failed=told[:_TOLD].replace(str(ROOT), ""))


def _short(value: str | float) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _card() -> dict[str, str]:
    """What nvidia-smi says of the card; nothing without one."""
    command = ["nvidia-smi", f"--query-gpu={_CARD}", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(_CARD.split(","), map(str.strip, lines[0].split(",")), strict=True)) if lines else {}


def _sources() -> str:
    """A digest of the code that is measured: a copy that was carried to another machine has no revision."""
    digest = sha256()
    for path in sorted(file for folder in ("models", "service", "training") for file in (ROOT / folder).rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
