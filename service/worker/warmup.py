"""A released model made ready to run: engine, proof, warm-up, and the batch size that pays."""

import math
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines import golden
from models.engines.backend import Backend, candidates_for
from models.engines.engine import Engine
from models.engines.loader import load_engine
from models.engines.selection import Choice
from service.batch_costs import best_batch_size, image_costs
from service.policy import (
    COST_TOLERANCE,
    HANG_FACTOR,
    HANG_FLOOR_NS,
    LARGEST_BATCH,
    QUICK_BATCH_NS,
    SLOW_REPEATS,
    UNDISTURBED_NS,
)


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are to be loaded."""

    engine: str
    precision: str
    compiled: bool
    threads: int
    max_batch_sizes: Mapping[str, int]
    """Images, by the model's name; 0 or missing: as many as pay."""
    max_accuracy_loss: float = 0.0
    """Points that a model in 8 bits may have lost."""
    choices: Mapping[tuple[str, int], Choice] = field(default_factory=dict)
    """How models are run, by name and version; without it in the most exact way that the options leave."""

    def candidates(self, artifact: Artifact, device: str) -> tuple[Backend, ...]:
        """The ways to run a model that the options leave, the most exact first; EngineError if there is none."""
        return candidates_for(artifact, self.engine, device, self.precision, self.compiled)

    def choice(self, artifact: Artifact, device: str) -> Choice:
        """The way in which a model is run; EngineError if there is none."""
        made = self.choices.get((artifact.name, artifact.version))
        return made or Choice(self.candidates(artifact, device)[0])

    def most_images(self, artifact: Artifact, device: str) -> int:
        """The largest batch that an engine must be able to run on the device."""
        return self.max_batch_sizes.get(artifact.name) or LARGEST_BATCH[device.partition(":")[0]]


@dataclass(frozen=True)
class LoadedModel:
    """A model that can run, and how long a batch of each size took at warm-up."""

    engine: Engine
    shape: tuple[int, int, int]
    latency_ns: dict[int, int]
    max_batch_size: int
    most_images: int
    """Images that the engine can run at a time, as quickly as it should."""

    @property
    def image_ns(self) -> float:
        """What an image cost in a batch of the largest size that was measured."""
        size, ns = max(self.latency_ns.items())
        return ns / size

    @cached_property
    def limits_ns(self) -> list[int]:
        """How long batches of 0, 1, 2, ... images may take before they count as hung, up to the largest measured."""
        sizes = sorted(self.latency_ns)
        measured = [sizes[bisect_left(sizes, n)] for n in range(sizes[-1] + 1)]
        return [max(HANG_FLOOR_NS, HANG_FACTOR * self.latency_ns[size]) for size in measured]


def load_model(artifact: Artifact, device: str, load: LoadOptions) -> LoadedModel:
    """Load a model's engine, prove it by its golden examples and warm it; ArtifactError or EngineError if it fails."""
    candidate, most = load.choice(artifact, device).candidate, load.most_images(artifact, device)
    engine = load_engine(artifact, candidate, device=device, threads=load.threads, max_batch=most)
    examples = golden.verify(artifact, engine)
    if load.max_batch_sizes.get(artifact.name):
        latency: dict[int, int] = {}
        for size in [*_doublings(most), most]:
            latency[size] = measure(engine, examples, size, latency)
        return LoadedModel(engine, artifact.input_shape, latency, most, most)
    latency = warm_while_it_pays(engine, examples, most)
    most = max(latency) if candidate.builds_each_size(device) else most
    return LoadedModel(engine, artifact.input_shape, latency, best_batch_size(latency), most)


def warm_while_it_pays(engine: Engine, examples: golden.GoldenBatch, most: int) -> dict[int, int]:
    """Latency (ns) of batches of 1, 2, 4, ..., `most` of these images until a larger one does not pay any more."""
    latency: dict[int, int] = {}
    for size in [*_doublings(most), most]:
        latency[size] = measure(engine, examples, size, latency)
        if best_batch_size(latency) < size or _is_saturated(latency):
            break
    return latency


def _is_saturated(latency_ns: Mapping[int, int]) -> bool:
    """Whether the next doubling would be slow, and the last made nothing cheaper."""
    *_, before, last = [math.inf, *image_costs(latency_ns).values()]
    return 2 * max(latency_ns.values()) > QUICK_BATCH_NS and last >= before * (1 - COST_TOLERANCE)


def measure(engine: Engine, examples: golden.GoldenBatch, size: int, smaller: Mapping[int, int]) -> int:
    """Nanoseconds that a batch of this size takes; those of `smaller` are known. ArtifactError if its answers differ.

    The examples and no zeros, with which a GPU is faster than with any picture. The first run of a size is not counted,
    unless it is slow and yet as quick as was to be expected.
    """
    images = examples.images(size)
    logits, first_ns = _time(engine, images)
    examples.verify(logits)
    expected_ns = min((ns * size / n for n, ns in smaller.items()), default=0)
    if UNDISTURBED_NS < first_ns <= expected_ns * (1 + COST_TOLERANCE):
        return first_ns
    doubtful_ns = expected_ns * (1 + COST_TOLERANCE) or math.inf
    times = [_time(engine, images)[1]]
    while len(times) * min(times) < UNDISTURBED_NS or (len(times) < SLOW_REPEATS and min(times) > doubtful_ns):
        times.append(_time(engine, images)[1])
    return min(times)


def _time(engine: Engine, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
    """The logits, and the nanoseconds that they took."""
    began = time.monotonic_ns()
    logits = engine.run(images)
    return logits, time.monotonic_ns() - began


def _doublings(below: int) -> list[int]:
    """1, 2, 4, ... below a size."""
    return [1 << power for power in range(below.bit_length()) if 1 << power < below]
