"""This checkout beside an older revision of itself: interleaved pairs of rounds, a picture through `mnist-residual`.

    python -m benchmarks.revisions REVISION [--picture digit|photo] [--rounds 7] [--seconds 3] [--connections 32 128]
    python -m benchmarks.revisions HEAD --flags="--access-log all" --result access-log
    python -m benchmarks.revisions HEAD --two-versions --flags="--shadow mnist-residual/1 --shadow-share 0.1" \
        --rounds 9 --connections 1 32 128 --result shadow
    python -m benchmarks.revisions HEAD --two-versions --flags="--shadow mnist-residual/1 --shadow-share 0.1" \
        --rounds 9 --connections 32 --pause 4 --result shadow-half

A photograph is a JPEG of 100 kB: nearly all of its time is its decoding.

Both run with the same Python and its packages, so REVISION has to work with them. --flags are for this checkout's
server alone: beside HEAD they tell what a setting costs. The logs go to files. With --two-versions both serve version 2
of a repository that has the network as version 1, too; the result then has what became of a shadow's copies. With
--pause each connection waits so many ms before each request: 32 of them with 4 ms are about half of the full load.
"""

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.ratios import METHOD, Ratio, Spread
from benchmarks.serving.workloads import Upload, digit_png
from benchmarks.serving.wrk import WrkResult, drive
from benchmarks.surroundings import RESULTS, ROOT, serving_surroundings

START_S, LOOK_S = 60.0, 0.1
PICTURES = {"digit": lambda: Upload(digit_png(), "image/png"), "photo": lambda: Upload(photo_jpeg(), "image/jpeg")}
MODEL = "mnist-residual"
COPIES = re.compile(r'^resnet_shadow_images_total{.*outcome="(\w+)".*} (.+)$', re.MULTILINE)
WARM_S = 2  # in which also the last worker becomes ready


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the files of a revision."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


@dataclass(frozen=True, slots=True)
class Side:
    """A checkout, the flags that its server gets, and the module that is run, with what stands before them."""

    home: Path
    flags: tuple[str, ...] = ()
    program: tuple[str, ...] = ("service",)


@dataclass(frozen=True, slots=True)
class SideResult:
    """What one server did.

    Attributes:
        loads: by connections.
        copies: images of its shadow by what became of them.

    """

    loads: dict[int, WrkResult]
    copies: Counter[str]


def two_versions(folder: Path) -> tuple[str, ...]:
    """The flags by which a server takes its models from this folder, which gets them."""
    for version in ("1", "2"):
        shutil.copytree(ROOT / "models" / "zoo" / MODEL / "1", folder / MODEL / version)
    return ("--model-repository", str(folder))


def measure(
    side: Side, upload: Upload, connections: list[int], seconds: int, scratch: Path, pause_ms: int = 0
) -> SideResult:
    """Start the server of this side and load it with each count of connections in turn."""
    command = [sys.executable, "-m", *side.program, "--port", "0", "--log-format", "json", *side.flags]
    environment, log = os.environ | {"PYTHONPATH": str(side.home)}, scratch / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, cwd=side.home, env=environment, stderr=stderr) as server,
    ):
        try:
            url = _url_once_ready(log)
            load = partial(drive, url + "/predict?top_k=3", upload, folder=scratch, pause_ms=pause_ms)
            load(connections=8, seconds=WARM_S)
            return SideResult({count: load(connections=count, seconds=seconds) for count in connections}, _copies(url))
        finally:
            server.terminate()


def _copies(url: str) -> Counter[str]:
    text = urlopen(url + "/metrics", timeout=START_S).read().decode()
    return Counter({outcome: int(float(n)) for outcome, n in COPIES.findall(text)})


def _url_once_ready(log: Path) -> str:
    for _ in range(int(START_S / LOOK_S)):
        events = (json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        url = next((str(event["url"]) for event in events if "url" in event), "")
        with contextlib.suppress(OSError, ValueError):  # there is none yet
            if urlopen(url + "/readyz", timeout=START_S).status == HTTPStatus.OK:
                return url
        time.sleep(LOOK_S)
    raise SystemExit(f"the server does not become ready:\n{log.read_text()}")


def main() -> None:
    """Measure the pairs, print the ratios, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--picture", choices=PICTURES, default="digit")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--pause", type=int, default=0, metavar="MS", help="of each connection before each request")
    parser.add_argument("--flags", type=shlex.split, default=[], help="of this checkout's server alone")
    parser.add_argument("--two-versions", action="store_true", help="both have the network in two versions")
    parser.add_argument("--result", help="name of the file in benchmarks/results")
    options = parser.parse_args()
    pairs: dict[int, list[tuple[WrkResult, WrkResult]]] = {count: [] for count in options.connections}
    copies: Counter[str] = Counter()
    with checkout(options.revision) as other, tempfile.TemporaryDirectory() as scratch:
        upload = PICTURES[options.picture]()
        flags = two_versions(Path(scratch, "models")) if options.two_versions else ()
        this, beside = Side(ROOT, (*flags, *options.flags)), Side(other, flags)
        for turn in range(options.rounds):
            sides = (this, beside) if turn % 2 else (beside, this)
            load = (upload, options.connections, options.seconds, Path(scratch), options.pause)
            found = {side: measure(side, *load) for side in sides}
            copies += found[this].copies
            for count, rounds in pairs.items():
                rounds.append((found[this].loads[count], found[beside].loads[count]))
    table = Table("connections", "this, requests/s", "other, requests/s", "ratio", "at least", "p99, ratio", "failed")
    document: dict[str, object] = {**serving_surroundings("benchmarks.revisions"), "method": METHOD}
    document |= {"flags": shlex.join(options.flags)} | ({"copies": dict(copies)} if copies else {})
    for count, rounds in pairs.items():
        ours, others = ([one.per_second for one in side] for side in zip(*rounds, strict=True))
        ratio = Ratio.of(list(zip(ours, others, strict=True)))
        p99 = Ratio.of([(one.p99_ms, old.p99_ms) for one, old in rounds])
        failed = sum(one.failed for one, _ in rounds)
        document[f"connections {count}"] = {
            "this_per_second": asdict(Spread.of(ours)),
            "other_per_second": asdict(Spread.of(others)),
            "ratio": ratio.median,
            "ratio_at_least": ratio.lower,
            "p99_ratio": p99.median,
            "pairs": ratio.pairs,
            "failed": failed,
        }
        row = (Spread.of(ours).median, Spread.of(others).median, ratio.median, ratio.lower or 0.0, p99.median)
        table.add_row(str(count), *[f"{value:.3f}" if value < 100 else f"{value:.0f}" for value in row], str(failed))
    Console().print(table)
    name = options.result or f"revisions-{options.picture}"
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
