"""The file that keeps what a benchmark found: `benchmarks/results/NAME.json`."""

import json
from collections.abc import Mapping

from benchmarks.surroundings import RESULTS


def write_result(name: str, document: Mapping[str, object]) -> None:
    """Write the document over what was found before."""
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
