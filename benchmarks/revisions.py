"""This checkout beside an older revision of itself: pictures through `mnist-residual`, two servers in turn.

    python -m benchmarks.revisions REVISION [--picture digit|photo] [--rounds 8] [--turns 5] [--connections 32 128]

Each round starts both servers, and gives each one burst of --seconds in each of its --turns. Two starts of one server
differ by some percent, so that rounds say more than turns. A photograph is a JPEG of 100 kB: nearly all of its time is
its decoding.

Both run with the same Python and its packages, so REVISION has to work with them. The logs go to files.
"""

import argparse
import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.side_by_side import METHOD, TRAFFIC, Burst, Pair, Side, in_turn, report, standing
from benchmarks.surroundings import ROOT


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def measure(other: Path, bursts: Sequence[Burst], turns: int, scratch: Path) -> Iterator[tuple[int, Pair]]:
    """One round with the checkout `other`: the connections of each burst, and what became of it."""
    messages = bursts[0].messages
    with (
        standing(Side(ROOT), messages, scratch / "this") as this,
        standing(Side(other), messages, scratch / "other") as beside,
    ):
        for burst in bursts:
            for served in in_turn({"this": this, "other": beside}, burst, turns):
                yield burst.connections, (served["this"], served["other"])


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
    pairs: dict[int, list[Pair]] = {burst.connections: [] for burst in bursts}
    with checkout(options.revision) as other, tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for connections, pair in measure(other, bursts, options.turns, Path(folder)):
                pairs[connections].append(pair)
    report("benchmarks.revisions", pairs, "other", f"revisions-{options.picture}", method=METHOD)


if __name__ == "__main__":
    main()
