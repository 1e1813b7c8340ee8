"""Measure a machine with a GPU, step by step, each in a process of its own with a limit; the order is that of value.

    python -m benchmarks.gpu [--steps ceilings,engines,...] [--budget 840] [--device cpu --quick]

Writes benchmarks/results/gpu-*.json after each row. A step that fails, hangs or has no time left does not end the
others, and rows that say so belong to the result. With --quick it is a rehearsal: tiny sizes, to be run on a CPU before
anybody's time on a GPU is spent.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu import ceilings, decoding, engines, serving, training
from benchmarks.gpu.trip import Trip, take_step
from benchmarks.surroundings import RESULTS

STEPS: dict[str, tuple[Callable[[Trip], None], float]] = {
    "ceilings": (ceilings.measure, 40),
    "engines": (engines.measure, 240),
    "decoding": (decoding.measure, 25),
    "serving": (serving.measure, 240),
    "scaling": (serving.measure_scaling, 90),
    "training": (training.measure, 200),
}
"""What each does, and its limit in seconds."""

_END_S = 20.0  # time from SIGTERM until a step is killed: it ends the servers that it started


def main() -> int:
    """Run the steps; 1 if one did not end by itself."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--steps", default=",".join(STEPS), help="with commas between them")
    parser.add_argument("--budget", type=float, default=840, help="seconds for all of them")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: tiny sizes")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of the results")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    ends_s = time.monotonic() + options.budget
    with tempfile.TemporaryDirectory(prefix="resnet-serve-gpu-") as name:
        codes = [
            _run(step, Trip(options.device, options.quick, Path(name), options.output, ends_s))
            for step in options.steps.split(",")
        ]
    return int(any(codes))


def _run(step: str, trip: Trip) -> int:
    """Run one step to its limit; its exit code."""
    measure, limit_s = STEPS[step]
    began_s = time.monotonic()
    ends_s = trip.ends_s if trip.quick else min(trip.ends_s, began_s + limit_s)
    process = multiprocessing.get_context("spawn").Process(
        target=take_step, args=(measure, Trip(trip.device, trip.quick, trip.work, trip.output, ends_s))
    )
    process.start()
    process.join(max(0.0, ends_s - time.monotonic()))
    if process.is_alive():
        process.terminate()
        process.join(_END_S)
        process.kill()
        process.join()
    print(f"-- {step}: exit {process.exitcode} after {time.monotonic() - began_s:.0f} s", flush=True)
    return process.exitcode or 0


if __name__ == "__main__":
    raise SystemExit(main())
