"""A try at loading a version in a process of its own: whether it can serve, while an older one is still at hand."""

import multiprocessing
from multiprocessing.connection import Connection

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.engine import EngineError
from service.worker.warmup import LoadOptions, load_proved


def try_version(artifact: Artifact, device: str, load: LoadOptions, seconds: float) -> None:
    """Load the version and prove it by its golden examples; ArtifactError with the reason if that fails.

    Whatever it does to the process, a crash or a hang, it does to one that serves nothing.
    """
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(writer, artifact, device, load), daemon=True)
    process.start()
    writer.close()
    try:
        if not reader.poll(seconds):
            raise ArtifactError(f"it did not load within {seconds:g} s (--start-timeout)")
        reason: str = reader.recv()
    except EOFError:
        process.join(seconds)
        raise ArtifactError(f"the process that loaded it ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        reader.close()
    if reason:
        raise ArtifactError(reason)


def _tell(writer: Connection, artifact: Artifact, device: str, load: LoadOptions) -> None:
    """Send why it cannot be loaded, nothing if it can."""
    try:
        load_proved(artifact, device, load)
    except (ArtifactError, EngineError) as error:
        writer.send(str(error))
    else:
        writer.send("")
