"""What half and double of a tuned constant change: three servers in turn, for each constant, through `mnist-residual`.

    python -m benchmarks.constants [NAME ...] [--rounds 2] [--turns 8] [--seconds 1] [--connections 32 128]

Each round starts the server as it is, one with the constant of NAME (by default those that requests of digits meet) at
half of its value, and one at twice it; each gets digits once in each turn. A ratio is to the server as it is.
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.side_by_side import METHOD, TRAFFIC, Burst, BurstRatios, BurstResult, Side, in_turn, standing
from benchmarks.surroundings import RESULTS, ROOT, serving_surroundings
from service import policy

MET = (
    "LEAD_NS",
    "WAKE_NS",
    "QUICK_IMAGE_NS",
    "NEWEST_WEIGHT",
    "DISPATCH_NS",
    "PAYING_NS",
    "TRIAL_INTERVAL",
    "TURN_NS",
    "ACCEPTED_SHARE",
    "TINY_BYTES",
)
FACTORS = (0.5, 2.0)


def changed(name: str, factor: float) -> Side:
    """The server with a multiple of this constant."""
    return Side(ROOT, program=("benchmarks.changed_policy", f"{name}={getattr(policy, name) * factor}"))


def measure(
    name: str, bursts: Sequence[Burst], turns: int, scratch: Path
) -> Iterator[tuple[int, float, tuple[BurstResult, BurstResult]]]:
    """Connections and factor, with what a server with that multiple of the constant did, and what the usual one did."""
    sides = {1.0: Side(ROOT)} | {factor: changed(name, factor) for factor in FACTORS}
    with ExitStack() as stack:
        servers = {
            factor: stack.enter_context(standing(side, bursts[0].messages, scratch / str(factor)))
            for factor, side in sides.items()
        }
        for burst in bursts:
            for served in in_turn(servers, burst, turns):
                for factor in FACTORS:
                    yield burst.connections, factor, (served[factor], served[1.0])


def main() -> None:
    """Measure the rounds, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=MET)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--turns", type=int, default=8, help="of all three servers, in each round")
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    messages = TRAFFIC["digit"]()
    bursts = [Burst(messages, count, options.seconds) for count in options.connections]
    pairs: dict[tuple[str, float, int], list[tuple[BurstResult, BurstResult]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names * options.rounds:
            for count, factor, pair in measure(name, bursts, options.turns, Path(scratch)):
                pairs[name, factor, count].append(pair)
    report({key: BurstRatios.of(served) for key, served in pairs.items()})


def report(found: Mapping[tuple[str, float, int], BurstRatios]) -> None:
    """Print the median ratios, and write them."""
    table = Table("constant", "value", "times", "connections", "requests/s, ratio", "p99, ratio", "CPU, ratio")
    changes = []
    for (name, factor, count), one in found.items():
        value = getattr(policy, name)
        ratios = [f"{ratio.median:.3f}" for ratio in (one.per_second, one.p99, one.cpu)]
        table.add_row(name, f"{value:g}", f"{factor:g}", str(count), *ratios)
        changes.append({"constant": name, "value": value, "times": factor, "connections": count} | asdict(one))
    Console().print(table)
    document = {**serving_surroundings("benchmarks.constants"), "method": METHOD, "changes": changes}
    (RESULTS / "constants.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
