"""Which way to run a model: each candidate is loaded, proved by the golden examples and timed, and one is chosen."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines import golden
from models.engines.backend import Backend
from models.engines.engine import Engine, EngineError
from models.engines.loader import load_engine
from models.engines.speed import images_per_second

FASTER = 1.1
"""Least ratio of speeds for which a less exact candidate is taken. Less, and two that are equally fast change places
from start to start, and answers with them; more, and a gain is left."""

_ROUNDS = 7
"""Times that each candidate is timed, in turns; the median is kept."""

_IMAGES = {"cpu": 4, "cuda": 64}
"""Images in the batches that are timed, if the largest allowed one has as many."""

_TIMED_BYTES = 64 << 20
"""Of pixels in such a batch at most: all candidates stand beside each other, and each has memory for it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a candidate: how fast it is, or why it may not be used."""

    candidate: Backend
    images_per_second: float = 0.0
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """The way in which a model is run, why, and all that were tried; none where there was only one."""

    candidate: Backend
    why: str = ""
    attempts: tuple[Attempt, ...] = ()


def too_inexact(artifact: Artifact, candidate: Backend, max_accuracy_loss: float) -> str:
    """Why a candidate may not be used although it is right: the accuracy that it loses, in points; else nothing."""
    if artifact.run_in(candidate.precision) is artifact:
        return ""
    lost = artifact.run_in(candidate.precision).metadata.lost_points()
    if lost is None:
        return "how much accuracy it loses is not recorded; make it again with `resnet-train quantize --beside`"
    if lost > max_accuracy_loss:
        return f"it loses {lost:.3g} points of accuracy, more than the {max_accuracy_loss:g} of --max-accuracy-loss"
    return ""


def attempt(
    artifact: Artifact,
    candidates: Sequence[Backend],
    *,
    device: str,
    threads: int,
    max_batch: int,
    begin: Callable[[Backend], None] = lambda _: None,
) -> list[Attempt]:
    """Load, prove and time the candidates beside each other; `begin` is told of each before it is loaded or timed.

    One that cannot be loaded, or answers otherwise than it must, is refused with the reason. EngineError if one fails
    while it runs: what comes after it in this process would fail for it, too.
    """
    size = min(_IMAGES[device.partition(":")[0]], max_batch, max(1, _TIMED_BYTES // math.prod(artifact.input_shape)))
    images = np.empty((0, *artifact.input_shape), np.uint8)
    engines: dict[Backend, Engine] = {}
    refused: dict[Backend, Attempt] = {}
    for candidate in candidates:
        begin(candidate)
        try:
            engine = load_engine(artifact, candidate, device=device, threads=threads, max_batch=max_batch)
        except EngineError as error:
            refused[candidate] = Attempt(candidate, refused=str(error))
            continue
        try:
            examples = golden.verify(artifact, engine)
            images = examples.images(size)
            examples.verify(engine.run(images))
        except ArtifactError as error:
            refused[candidate] = Attempt(candidate, refused=str(error))
        else:
            engines[candidate] = engine
    sound, speeds = list(engines), [0.0]
    if len(sound) > 1:
        speeds = images_per_second([*engines.values()], images, _ROUNDS, lambda place: begin(sound[place]))
    timed = {each: Attempt(each, speed) for each, speed in zip(sound, speeds, strict=False)}
    return [(timed | refused)[candidate] for candidate in candidates]


def choose(artifact: Artifact, attempts: Sequence[Attempt]) -> Choice:
    """The first that is sound, the most exact, unless a later one is FASTER; ArtifactError with the reasons if none is.

    Without noise the same attempts give the same choice; with it too, unless a ratio is at FASTER.
    """
    sound = [each for each in attempts if not each.refused]
    if not sound:
        raise ArtifactError("; ".join(_told(each, of_several=len(attempts) > 1) for each in attempts))
    first = best = sound[0]
    for each in sound[1:]:
        if each.images_per_second >= FASTER * best.images_per_second:
            best = each
    if len(attempts) == 1:
        return Choice(best.candidate)
    return Choice(best.candidate, _why(artifact, first, best, sound), tuple(attempts))


def _told(attempt: Attempt, of_several: bool) -> str:
    return f"{attempt.candidate}: {attempt.refused}" if of_several else attempt.refused


def _why(artifact: Artifact, first: Attempt, best: Attempt, sound: Sequence[Attempt]) -> str:
    if len(sound) == 1:
        return "it is the only one that may be used"
    if best is first:
        return f"no other is {FASTER - 1:.0%} faster, and none more exact"
    lost = artifact.run_in(best.candidate.precision).metadata.lost_points()
    cost = "" if lost is None else f" and loses {max(0.0, lost):.3g} points of accuracy"
    ratio = best.images_per_second / first.images_per_second
    return f"it is {ratio:.2f} times as fast as {first.candidate}{cost}"
