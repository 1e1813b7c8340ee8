"""This checkout beside an older revision of itself: pictures through `mnist-residual`, two servers in turn.

    python -m benchmarks.revisions REVISION [--picture digit|photo] [--rounds 8] [--turns 5] [--connections 32 128]
    python -m benchmarks.revisions HEAD --flags="--access-log all" --result access-log
    python -m benchmarks.revisions HEAD --two-versions --flags="--shadow mnist-residual/1 --shadow-share 0.1" \
        --connections 1 32 128 --result shadow
    python -m benchmarks.revisions HEAD --two-versions --flags="--shadow mnist-residual/1 --shadow-share 0.1" \
        --connections 32 --pause 4 --result shadow-half

Each round starts both servers, and gives each one burst of --seconds in each of its --turns. Two starts of one server
differ by some percent, so that rounds say more than turns. A photograph is a JPEG of 100 kB: nearly all of its time is
its decoding.

Both run with the same Python and its packages, so REVISION has to work with them. --flags are for this checkout's
server alone: beside HEAD they tell what a setting costs. The logs go to files. With --two-versions both serve version 2
of a repository that has the network as version 1, too; the result then has what became of a shadow's copies. With
--pause each connection waits so many ms before each request: 32 of them with 4 ms are about half of the full load.
"""

import argparse
import contextlib
import json
import shlex
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.side_by_side import METHOD, TRAFFIC, Burst, BurstRatios, BurstResult, Side, in_turn, standing
from benchmarks.surroundings import RESULTS, ROOT, serving_surroundings

MODEL = "mnist-residual"


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def two_versions(folder: Path) -> tuple[str, ...]:
    """The flags by which a server takes its models from this folder, which gets them."""
    for version in ("1", "2"):
        shutil.copytree(ROOT / "models" / "zoo" / MODEL / "1", folder / MODEL / version)
    return ("--model-repository", str(folder))


def main() -> None:
    """Measure the pairs, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--picture", choices=TRAFFIC, default="digit")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5, help="of both servers, in each round")
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--pause", type=int, default=0, metavar="MS", help="of each connection before each request")
    parser.add_argument("--flags", type=shlex.split, default=[], help="of this checkout's server alone")
    parser.add_argument("--two-versions", action="store_true", help="both have the network in two versions")
    parser.add_argument("--result", help="name of the file in benchmarks/results")
    options = parser.parse_args()
    messages = TRAFFIC[options.picture]()
    bursts = [Burst(messages, count, options.seconds, options.pause) for count in options.connections]
    pairs: dict[int, list[tuple[BurstResult, BurstResult]]] = {burst.connections: [] for burst in bursts}
    copies: Counter[str] = Counter()
    with checkout(options.revision) as other, tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        flags = two_versions(scratch / "models") if options.two_versions else ()
        sides = Side(ROOT, (*flags, *options.flags)), Side(other, flags)
        for _ in range(options.rounds):
            with (
                standing(sides[0], messages, scratch / "this") as this,
                standing(sides[1], messages, scratch / "other") as beside,
            ):
                for burst in bursts:
                    for served in in_turn({"this": this, "other": beside}, burst, options.turns):
                        pairs[burst.connections].append((served["this"], served["other"]))
                copies += this.copies()
    found = {count: BurstRatios.of(served) for count, served in pairs.items()}
    table = Table("connections", "requests/s", "other", "ratio", "at least", "p99, ratio", "CPU, ratio", "failed")
    for count, one in found.items():
        speeds = one.this_per_second.median, one.other_per_second.median
        ratios = one.per_second.median, one.per_second.lower or 0.0, one.p99.median, one.cpu.median
        table.add_row(str(count), *[f"{it:.0f}" for it in speeds], *[f"{it:.3f}" for it in ratios], str(one.failed))
    Console().print(table)
    document: dict[str, object] = {**serving_surroundings("benchmarks.revisions"), "method": METHOD}
    document |= {"flags": shlex.join(options.flags)} | ({"copies": dict(copies)} if copies else {})
    document |= {f"connections {count}": asdict(one) for count, one in found.items()}
    name = options.result or f"revisions-{options.picture}"
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
