"""What the machine does without a server: our preprocessing and our engine in bare loops, one on each core.

python -m benchmarks.serving.floor ARTIFACT IMAGE BATCH SECONDS is one of these loops.
"""

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.serving.workloads import Workload
from benchmarks.surroundings import ROOT
from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.images.decoder import Preprocessor
from models.machine.cores import usable_cores

BATCHES = (1, 8, 32)
MAX_PIXELS = 50_000_000  # the default of the server's --max-pixels
_WARM = "warm\n"


@dataclass(frozen=True, slots=True)
class FloorSample:
    """Some loops at once, each running batches of one size."""

    batch: int
    loops: int
    images_per_s: float
    """Images a second of all loops together."""
    cpu_us_per_image: float


def measure_floor(workload: Workload, batch: int, seconds: int, folder: Path) -> FloorSample:
    """Run a loop on each core at the same time, RuntimeError if one fails; `folder` takes the image."""
    image = folder / "image"
    image.write_bytes(workload.image)
    command = [sys.executable, "-m", __name__, str(workload.model_file.parent), str(image), str(batch), str(seconds)]
    with contextlib.ExitStack() as stack:
        loops = [
            stack.enter_context(
                subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(usable_cores())
        ]
        for loop in loops:
            assert loop.stdout
            if loop.stdout.readline() != _WARM:
                raise RuntimeError(f"a bare loop with batches of {batch} ended before it was warm: its error is above")
        outputs = _go(loops)
        if any(loop.returncode for loop in loops):
            raise RuntimeError(f"a bare loop with batches of {batch} failed: its error is above")
    told = [json.loads(output) for output in outputs]
    rate = sum(loop["images"] / loop["seconds"] for loop in told)
    cpu_us = 1e6 * sum(loop["cpu_s"] for loop in told) / sum(loop["images"] for loop in told)
    return FloorSample(batch, len(loops), rate, cpu_us)


def _go(loops: list[subprocess.Popen[str]]) -> list[str]:
    for loop in loops:
        assert loop.stdin
        loop.stdin.write("go\n")
        loop.stdin.flush()
    return [loop.communicate()[0] for loop in loops]


def main() -> None:
    """Be one loop: report that it is warm, wait for a line, run, report."""
    directory, image, batch, seconds = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), *map(int, sys.argv[3:])
    artifact = read_artifact(directory)
    preprocess = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS)
    engine = load_engine(artifact, threads=1)
    engine.run(np.stack([preprocess(image)] * batch))
    print(_WARM, end="", flush=True)
    if not sys.stdin.readline():  # another loop has failed
        return
    images, began, cpu = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - began) < seconds:
        engine.run(np.stack([preprocess(image) for _ in range(batch)]))
        images += batch
    print(json.dumps({"images": images, "seconds": elapsed, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
