"""What half and double of a tuned constant change: interleaved rounds of digits, one server after the other.

    python -m benchmarks.constants [NAME ...] [--rounds 5] [--seconds 3] [--connections 32 128]

Each round measures the server as it is, then with each constant of NAME (by default those that requests of digits meet)
at half of its value and at twice it; a ratio is to the server as it is in the same round.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.revisions import PICTURES, Side, measure
from benchmarks.serving.ratios import METHOD, Ratio
from benchmarks.serving.wrk import WrkResult
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


def main() -> None:
    """Measure the rounds, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=MET)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    sides = {(name, factor): changed(name, factor) for name in options.names for factor in FACTORS}
    pairs: dict[tuple[str, float, int], list[tuple[WrkResult, WrkResult]]] = {
        (*key, count): [] for key in sides for count in options.connections
    }
    upload = PICTURES["digit"]()
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(options.rounds):
            usual = measure(Side(ROOT), upload, options.connections, options.seconds, Path(scratch)).loads
            for key, side in sides.items():
                found = measure(side, upload, options.connections, options.seconds, Path(scratch)).loads
                for count in options.connections:
                    pairs[*key, count].append((found[count], usual[count]))
    report(pairs)


def report(pairs: dict[tuple[str, float, int], list[tuple[WrkResult, WrkResult]]]) -> None:
    """Print the median ratios, and write them."""
    table = Table("constant", "value", "times", "connections", "requests/s, ratio", "p99, ratio")
    changes = []
    for (name, factor, count), rounds in pairs.items():
        rate = Ratio.of([(one.per_second, usual.per_second) for one, usual in rounds])
        p99 = Ratio.of([(one.p99_ms, usual.p99_ms) for one, usual in rounds])
        value = getattr(policy, name)
        table.add_row(name, f"{value:g}", f"{factor:g}", str(count), f"{rate.median:.3f}", f"{p99.median:.3f}")
        change = {"constant": name, "value": value, "times": factor, "connections": count}
        changes.append(change | {"ratio": asdict(rate), "p99_ratio": p99.median})
    Console().print(table)
    document = {**serving_surroundings("benchmarks.constants"), "method": METHOD, "changes": changes}
    (RESULTS / "constants.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
