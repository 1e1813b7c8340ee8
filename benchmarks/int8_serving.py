"""A photograph over HTTP through ResNet-18 in 8 bits and in fp32, beside mosec's fp32; interleaved rounds.

    python -m benchmarks.int8_serving [--rounds 7] [--seconds 15] [--servers fastest,fp32,mosec-8,mosec-32] [--quick]

One untrained network, whose version holds both graphs: `fastest` is `--precision fastest`, which takes what a trial at
start finds on this machine, and says so in the result. Writes benchmarks/results/int8-serving-<kind of CPU>.json.
"""

import argparse
import dataclasses
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result_file import write_result
from benchmarks.serving import wrk
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.ratios import METHOD, Ratio, Spread
from benchmarks.serving.servers import SERVERS, ServerSpec, started
from benchmarks.serving.untrained import release_untrained
from benchmarks.serving.workloads import Workload, raw
from benchmarks.surroundings import cpu_kind, serving_surroundings
from models.artifact.artifact import Artifact, read_artifact, write_artifact
from models.engines.loader import load_engine
from training.release.int8_graph import calibrate
from training.release.release import assemble, prove

CONNECTIONS, WARM_UP_S = 32, 2
PICTURES = 16  # of noise: to calibrate on, and to agree on
ANY_LOSS = ("--max-accuracy-loss", "100")  # an untrained network's accuracy means nothing
CHOICES = {
    "fastest": ServerSpec("fastest", "service", ("--precision", "fastest", *ANY_LOSS), "/predict", raw),
    "int8": ServerSpec("int8", "service", ("--precision", "int8"), "/predict", raw),
    "fp32": ServerSpec("fp32", "service", (), "/predict", raw),
    **{name: SERVERS[name] for name in ("mosec-8", "mosec-32")},
}


def release_both(architecture: str, folder: Path) -> Artifact:
    """A version of an untrained network for photographs that holds it in fp32 and in 8 bits."""
    release_untrained(architecture, folder / "fp32")
    fp32 = read_artifact(folder / "fp32" / architecture / "1")
    pixels = np.random.default_rng(0).integers(0, 256, (PICTURES, *fp32.input_shape), np.uint8)
    metadata = dataclasses.replace(fp32.metadata, precision="int8", golden=())
    calibrated = calibrate(fp32.model, np.split(pixels, PICTURES))
    draft = assemble(architecture, 1, calibrated.in_8_bits(), metadata)
    classes = [load_engine(each).run(pixels).argmax(1) for each in (fp32, draft)]
    agreement = float((classes[0] == classes[1]).mean())
    metadata = dataclasses.replace(metadata, metrics={"agreement_with_fp32": agreement})
    int8 = prove(assemble(architecture, 1, draft.model, metadata))
    return read_artifact(write_artifact(folder / "both", architecture, 1, fp32.model, None, int8.model))


def measure(artifact: Artifact, names: Sequence[str], rounds: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Requests a second of each server in each round, and what was chosen."""
    picture = photo_jpeg()
    workload = Workload("photo", picture, "image/jpeg", folder / "both", artifact, 5, (CONNECTIONS,), load_s=seconds)
    rates: defaultdict[str, list[float]] = defaultdict(list)
    chosen: dict[str, Any] = {}
    for _ in range(rounds):
        for name in names:
            with started(CHOICES[name], workload, folder) as (running, _):
                if running.server.is_ours:
                    told = json.loads(running.get(f"/models/{artifact.name}"))
                    chosen[name] = {key: told.get(key) for key in ("precision", "why", "candidates", "max_batch_size")}
                wrk.drive(running.url, running.upload(), CONNECTIONS, WARM_UP_S, folder)
                seen = wrk.drive(running.url, running.upload(), CONNECTIONS, seconds, folder)
                rates[name].append(seen.per_second)
    return {"per_second": dict(rates), "chosen": chosen}


def compare(rates: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The spread of each, and how many times as many requests ours answer as each other in the same rounds."""
    ours = [name for name in ("fastest", "int8") if name in rates]
    return {
        "spread": {name: dataclasses.asdict(Spread.of(values)) for name, values in rates.items()},
        "ratios": {
            f"{first} to {second}": dataclasses.asdict(Ratio.of([*zip(rates[first], values, strict=True)]))
            for first in ours
            for second, values in rates.items()
            if second != first
        },
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.int8_serving", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=15, help="of load, for each server and round")
    parser.add_argument("--servers", default="fastest,fp32,mosec-8,mosec-32", help=f"of {', '.join(CHOICES)}")
    parser.add_argument("--quick", action="store_true", help="one round of 2 s each; nothing is written")
    options = parser.parse_args()
    rounds, seconds = (1, 2) if options.quick else (options.rounds, options.seconds)
    with tempfile.TemporaryDirectory(prefix="resnet-serve-int8-") as name:
        folder = Path(name)
        found = measure(release_both("resnet18", folder), options.servers.split(","), rounds, seconds, folder)
    document = {
        **serving_surroundings("benchmarks.int8_serving"),
        "method": METHOD,
        "connections": CONNECTIONS,
        "seconds": seconds,
        **found,
        **compare(found["per_second"]),
    }
    if not options.quick:
        write_result(f"int8-serving-{cpu_kind()}", document)
    print(json.dumps({key: document[key] for key in ("chosen", "spread", "ratios")}, indent=1))


if __name__ == "__main__":
    main()
