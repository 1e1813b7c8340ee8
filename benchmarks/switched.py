"""What a part of the service costs: a server that takes it out and puts it in again many times a second.

    python -m benchmarks.switched access-log|shadow [--rounds 4] [--seconds 60] [--connections 32 128]
    python -m benchmarks.switched shadow --pause 4 --connections 32 --result shadow-half

Two starts of one server differ by more than a part costs: within one API process slots with the part and without it
are pairs, and each of --rounds starts gives hundreds, for `shadow` fewer. Different digits come as through a proxy. The
log goes to a file in memory. For `shadow` version 2 of the network is served, and version 1 gets copies of a tenth of
the images. With --pause each connection waits so many ms before each request: 32 of them with 4 ms are about half of
the full load.
"""

import argparse
import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.serving.ratios import BOUND
from benchmarks.side_by_side import TRAFFIC, Burst, BurstResult, Pair, Side, report, standing
from benchmarks.surroundings import ROOT

MODEL = "mnist-residual"
METHOD = (
    "slots of 40 ms with and without the part (a shadow: 800 ms), in random order, 10 ms (200 ms) apart, in one API "
    "process under one load are a pair; CPU time is that of the API process; the ratio is the median of the pairs; "
    + BOUND
)
IN_MEMORY = "/dev/shm"


def access_log_flags(_: Path) -> tuple[str, ...]:
    """All lines are written."""
    return ("--access-log", "all")


def shadow_flags(folder: Path) -> tuple[str, ...]:
    """Two versions of the network, of which the first gets copies; they are in `folder`."""
    for version in ("1", "2"):
        shutil.copytree(ROOT / "models" / "zoo" / MODEL / "1", folder / MODEL / version)
    return ("--model-repository", str(folder), "--shadow", f"{MODEL}/1", "--shadow-share", "0.1")


FLAGS: dict[str, Callable[[Path], tuple[str, ...]]] = {"access-log": access_log_flags, "shadow": shadow_flags}


def measure(part: str, bursts: Sequence[Burst]) -> tuple[dict[int, list[Pair]], Counter[str]]:
    """Pairs of slots with and without the part, by connections, and the shadow's copies, of one server."""
    pairs = {}
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        scratch = Path(folder)
        lines = scratch / "slots"
        flags = FLAGS[part](scratch / "models")
        side = Side(ROOT, ("--api-processes", "1", *flags), ("benchmarks.switched_server", part, str(lines)))
        with standing(side, bursts[0].messages, scratch) as server:
            for burst in bursts:
                lines.write_text("")
                server.serve(burst)
                pairs[burst.connections] = read_pairs(lines.read_text())
            return pairs, server.copies()


def read_pairs(lines: str) -> list[Pair]:
    """What a switched server has written of slots with the part, and of those without it beside them."""
    pairs = []
    for line in lines.splitlines():
        slots = json.loads(line)
        slots["with"]["failed"] += slots["without"]["failed"]
        this, other = BurstResult(**slots["with"]), BurstResult(**slots["without"])
        if this.per_second and other.per_second:
            pairs.append((this, other))
    return pairs


def main() -> None:
    """Measure the pairs, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=FLAGS)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--pause", type=int, default=0, metavar="MS", help="of each connection before each request")
    parser.add_argument("--result", help="name of the file in benchmarks/results")
    options = parser.parse_args()
    messages = TRAFFIC["digit"]()
    bursts = [Burst(messages, count, options.seconds, options.pause) for count in options.connections]
    pairs: defaultdict[int, list[Pair]] = defaultdict(list)
    copies: Counter[str] = Counter()
    for _ in range(options.rounds):
        measured, copied = measure(options.part, bursts)
        copies += copied
        for count, some in measured.items():
            pairs[count] += some
    told = {"method": METHOD} | ({"copies": dict(copies)} if copies else {})
    report("benchmarks.switched", pairs, "without", options.result or options.part, **told)


if __name__ == "__main__":
    main()
