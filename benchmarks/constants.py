"""What half and double of a tuned constant change, through `mnist-residual`, for requests of digits.

    python -m benchmarks.constants [NAME ...] [--rounds 3] [--turns 2] [--seconds 20] [--connections 32 128]

What is read anew each time is switched within one server many times a second, --seconds long for each multiple, as in
`benchmarks.switched`. For what is read at the start, each of --rounds starts the server as it is and one with the
multiple, and each gets a second of digits in each of --turns; two starts of one server differ by some percent. A ratio
is to the server as it is.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import switched
from benchmarks.result_file import write_result
from benchmarks.side_by_side import METHOD, TRAFFIC, Burst, BurstRatios, Pair, Side, in_turn, standing
from benchmarks.surroundings import ROOT, serving_surroundings
from service import policy

SWITCHED = ("LEAD_NS", "QUICK_IMAGE_NS", "TURN_NS")
"""Constants that are read each time that they are needed."""

STARTED = ("NEWEST_WEIGHT", "DISPATCH_NS", "PAYING_IMAGES", "TRIAL_INTERVAL", "ACCEPTED_SHARE", "TINY_BYTES")
"""Constants that are read at the start, or by what counts from one time to the next."""

FACTORS = (0.5, 2.0)


def measure(
    name: str, factor: float, options: argparse.Namespace, messages: Sequence[bytes]
) -> Iterator[tuple[int, Pair]]:
    """Connections, and the server with a multiple of this constant beside the usual one."""
    program = f"{name}={getattr(policy, name) * factor}"
    if name in SWITCHED:
        pairs, _ = switched.measure(program, [Burst(messages, n, options.seconds) for n in options.connections])
        yield from ((count, pair) for count, some in pairs.items() for pair in some)
        return
    sides = {"this": Side(ROOT, program=("benchmarks.changed_policy", program)), "usual": Side(ROOT)}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            servers = {
                key: stack.enter_context(standing(side, messages, Path(scratch) / key)) for key, side in sides.items()
            }
            for count in options.connections:
                for served in in_turn(servers, Burst(messages, count, 1), options.turns):
                    yield count, (served["this"], served["usual"])


def main() -> None:
    """Measure, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*SWITCHED, *STARTED])
    parser.add_argument("--rounds", type=int, default=3, help="of starts")
    parser.add_argument("--turns", type=int, default=2, help="of both servers, in each round")
    parser.add_argument("--seconds", type=int, default=20, help="of load, for each multiple that is switched")
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    messages = TRAFFIC["digit"]()
    pairs: defaultdict[tuple[str, float, int], list[Pair]] = defaultdict(list)
    for name, factor in product(options.names, FACTORS):
        for count, pair in measure(name, factor, options, messages):
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
        method = "switched" if name in SWITCHED else "started"
        changes.append(
            {"constant": name, "method": method, "value": value, "times": factor, "connections": count} | asdict(one)
        )
    Console().print(table)
    document = {
        **serving_surroundings("benchmarks.constants"),
        "methods": {"switched": switched.METHOD, "started": METHOD},
        "changes": changes,
    }
    write_result("constants", document)


if __name__ == "__main__":
    main()
