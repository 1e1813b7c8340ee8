"""What a training run has left in its folder."""

import json
from pathlib import Path
from typing import Any


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The figures of each epoch."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
