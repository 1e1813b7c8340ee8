"""This checkout beside an older revision of itself: pictures through `mnist-residual`, two servers in turn.

    python -m benchmarks.revisions REVISION [--picture digit|photo] [--rounds 8] [--turns 5] [--connections 32 128]

Each round starts both servers, and gives each one burst of --seconds in each of its --turns. Two starts of one server
differ by some percent, so that rounds say more than turns. A photograph is a JPEG of 100 kB: nearly all of its time is
its decoding.

Both run with the same Python and its packages, so REVISION has to work with them. The logs go to files.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.side_by_side import METHOD, TRAFFIC, Burst, BurstRatios, BurstResult, Side, in_turn, standing
from benchmarks.surroundings import RESULTS, ROOT, serving_surroundings


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def main() -> None:
    """Measure the pairs, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--picture", choices=TRAFFIC, default="digit")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5, help="of both servers, in each round")
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    messages = TRAFFIC[options.picture]()
    bursts = [Burst(messages, count, options.seconds) for count in options.connections]
    pairs: dict[int, list[tuple[BurstResult, BurstResult]]] = {burst.connections: [] for burst in bursts}
    with checkout(options.revision) as other, tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for _ in range(options.rounds):
            with (
                standing(Side(ROOT), messages, scratch / "this") as this,
                standing(Side(other), messages, scratch / "other") as beside,
            ):
                for burst in bursts:
                    for served in in_turn({"this": this, "other": beside}, burst, options.turns):
                        pairs[burst.connections].append((served["this"], served["other"]))
    found = {count: BurstRatios.of(served) for count, served in pairs.items()}
    table = Table("connections", "requests/s", "other", "ratio", "at least", "p99, ratio", "CPU, ratio", "failed")
    for count, one in found.items():
        speeds = one.this_per_second.median, one.other_per_second.median
        ratios = one.per_second.median, one.per_second.lower or 0.0, one.p99.median, one.cpu.median
        table.add_row(str(count), *[f"{it:.0f}" for it in speeds], *[f"{it:.3f}" for it in ratios], str(one.failed))
    Console().print(table)
    document: dict[str, object] = {**serving_surroundings("benchmarks.revisions"), "method": METHOD}
    document |= {f"connections {count}": asdict(one) for count, one in found.items()}
    (RESULTS / f"revisions-{options.picture}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
