"""How a model is to be run, tried in a process of its own: what crashes or hangs does it where nothing is served."""

from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import structlog

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.selection import Attempt, Choice, attempt, choose, too_inexact
from service.process.side_process import side_process
from service.worker.warmup import LoadOptions

log = structlog.get_logger()


class Selector:
    """Chooses how each model is run, once, so that all workers run it so. Each candidate has so many seconds."""

    def __init__(self, device: str, load: LoadOptions, seconds: float) -> None:
        self._device, self._load, self._seconds = device, load, seconds
        self._choices: dict[tuple[str, int], Choice] = {}

    def try_version(self, artifact: Artifact) -> None:
        """Load each candidate, prove it by the golden examples, and choose; ArtifactError says why if none will do."""
        candidates = self._candidates(artifact)
        made: dict[Backend, Attempt] = {}
        for candidate in candidates if len(candidates) > 1 else ():  # one that was asked for by its name is taken
            if why := too_inexact(artifact, candidate, self._load.max_accuracy_loss):
                made[candidate] = Attempt(candidate, refused=why)
        while waiting := [candidate for candidate in candidates if candidate not in made]:
            attempts = _in_process(artifact, self._device, self._load, waiting, self._seconds)
            made |= {each.candidate: each for each in attempts}
        choice = choose(artifact, [made[candidate] for candidate in candidates])
        self._choices[artifact.name, artifact.version] = choice
        if choice.attempts:
            tried = {str(each.candidate): _told(each) for each in choice.attempts}
            about = {"model": artifact.name, "version": artifact.version}
            log.info("way to run chosen", **about, way=str(choice.candidate), why=choice.why, tried=tried)

    def choices(self, artifacts: Sequence[Artifact]) -> dict[tuple[str, int], Choice]:
        """How each model is run, by name and version; models with one candidate, or none, are left to the workers."""
        for artifact in artifacts:
            if (artifact.name, artifact.version) not in self._choices:
                with suppress(ArtifactError):  # a worker finds the reason, and reports it
                    if len(self._candidates(artifact)) > 1:
                        self.try_version(artifact)
        return self._choices

    def _candidates(self, artifact: Artifact) -> tuple[Backend, ...]:
        try:
            return self._load.candidates(artifact, self._device)
        except EngineError as error:
            raise ArtifactError(str(error)) from error


def _told(attempt: Attempt) -> str:
    """What became of it, in words; the only one that may be used is not timed."""
    return attempt.refused or (f"{attempt.images_per_second:.1f} images/s" if attempt.images_per_second else "sound")


def _in_process(
    artifact: Artifact, device: str, load: LoadOptions, candidates: Sequence[Backend], seconds: float
) -> list[Attempt]:
    """What became of all candidates, or of the one alone that the process ended or hung with."""
    begun = candidates[0]
    with side_process("fork", _tell, artifact, device, load, candidates) as (process, reader):
        try:
            while reader.poll(seconds):
                told = reader.recv()
                if isinstance(told, list):
                    return told
                begun = told
            reason = f"it did not load within {seconds:g} s (--start-timeout)"
        except EOFError:
            process.join(seconds)
            reason = f"the process that loaded it ended with {process.exitcode}"
    return [Attempt(begun, refused=reason)]


def _tell(
    writer: Connection, artifact: Artifact, device: str, load: LoadOptions, candidates: Sequence[Backend]
) -> None:
    """Send each candidate as its turn comes, and at last what became of all, or of the one that broke the process."""
    begun = candidates[0]

    def begin(candidate: Backend) -> None:
        nonlocal begun
        begun = candidate
        writer.send(candidate)

    most = load.most_images(artifact, device)
    try:
        made = attempt(artifact, candidates, device=device, threads=load.threads, max_batch=most, begin=begin)
    except EngineError as error:
        made = [Attempt(begun, refused=str(error))]
    except Exception as error:  # a CUDA error, say, which leaves a process without its GPU
        made = [Attempt(begun, refused=f"{type(error).__name__}: {error}")]
    writer.send(made)
