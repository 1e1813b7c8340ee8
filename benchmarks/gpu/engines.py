"""Images a second of every way in which a server may run a model, and the share of the machine's roofline."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.ceilings import ceilings_of
from benchmarks.gpu.networks import released
from benchmarks.gpu.report import RowWriter
from benchmarks.gpu.roofline import LayerCost, layer_costs, line
from benchmarks.gpu.trip import Trip
from models.artifact.artifact import Artifact
from models.engines import golden
from models.engines.backend import Backend, candidates
from models.engines.loader import load_engine
from models.engines.speed import images_per_second
from models.machine.cores import usable_cores

_ROUNDS = 5
_METHOD = (
    "from pixels in host memory to logits in host memory, medians of five runs; each way passes the golden examples"
)


def measure(trip: Trip) -> None:
    """Write gpu-engines.json."""
    report = RowWriter(trip.output, "engines", _METHOD)
    for name in trip.networks:
        artifact, costs = released(name, trip.work), layer_costs(name)
        for backend in backends(trip):
            if not trip.has(20):
                report.add("engines", network=name, backend=str(backend), failed="no time left")
                continue
            try:
                _measure(trip, report, artifact, costs, backend)
            except Exception as error:
                report.fail("engines", error, network=name, backend=str(backend))


def backends(trip: Trip) -> tuple[Backend, ...]:
    """Those that a server tries; those without PyTorch's compiler, which takes a minute, first."""
    if not trip.cuda:
        return (*candidates("auto", "cpu"), *candidates("torch", "cpu", "fastest"))
    ways = candidates("auto", "cuda", "fastest", compiled=True)
    return tuple(sorted(ways, key=lambda way: way.compiled))


def _measure(trip: Trip, report: RowWriter, artifact: Artifact, costs: list[LayerCost], backend: Backend) -> None:
    engine = load_engine(artifact, backend, device=trip.device, threads=usable_cores(), max_batch=max(trip.batches))
    pixels = golden.verify(artifact, engine).pixels
    for batch in trip.batches:
        images: NDArray[np.uint8] = np.resize(pixels, (batch, *artifact.input_shape))
        (rate,) = images_per_second([engine], images, 2 if trip.quick else _ROUNDS)
        row: dict[str, str | float] = {
            "network": artifact.name,
            "backend": str(backend),
            "batch": batch,
            "images_per_s": rate,
        }
        if seen := ceilings_of(trip.output, backend.precision):
            row["roofline_share"] = rate / line(costs, backend.precision, batch, *seen)
        report.add("engines", **row)
