"""The last steps to a released model, however it was made: metadata, golden examples, and the files."""

import dataclasses
import hashlib
import platform
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from pydantic import JsonValue

from models.artifact.artifact import Artifact, write_artifact
from models.artifact.metadata import FORMAT_VERSION, Metadata
from models.engines import golden
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from training.release.onnx_export import with_metadata

_TOOLS = ("resnet-serve", "torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "pillow", "numpy")
"""Distributions whose versions a model's metadata tells."""


def describe(
    *,
    architecture: str,
    arguments: dict[str, str],
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    metrics: dict[str, str | int | float],
    recipe: dict[str, JsonValue],
) -> Metadata:
    """Return the metadata of a model in fp32 that is made now and here; its golden examples come later."""
    return Metadata(
        format_version=FORMAT_VERSION,
        architecture=architecture,
        arguments=arguments,
        labels=labels,
        preprocessing=preprocessing,
        precision="fp32",
        tolerance=golden.TOLERANCE,
        metrics=metrics,
        recipe=recipe,
        tools=tools(),
        created=now(),
        golden=(),
    )


def trained_on(metadata: Metadata) -> str | None:
    """Return the name or path of the data set that the model was trained on, if it says so."""
    # Earlier exports tell only on what they measured.
    data = metadata.recipe.get("data") or metadata.metrics.get("data")
    return None if data is None else str(data)


def assemble(name: str, version: int, graph: bytes, metadata: Metadata) -> Artifact:
    """Return the model as a repository would give it, before it is written to one."""
    model = with_metadata(graph, metadata)
    return Artifact(name, version, metadata, model, hashlib.sha256(model).hexdigest(), None)


def release(draft: Artifact, repository: Path, weights: bytes | None) -> Path:
    """Give the draft golden examples, check it on them as a server will, and write it; raises ArtifactError."""
    return write_artifact(repository, draft.name, draft.version, prove(draft).model, weights)


def prove(draft: Artifact) -> Artifact:
    """Give the draft golden examples, and check it on them as a server will; raises ArtifactError."""
    metadata = dataclasses.replace(draft.metadata, golden=golden.make(draft, load_engine(draft)))
    artifact = assemble(draft.name, draft.version, draft.model, metadata)
    golden.verify(artifact, load_engine(artifact))
    return artifact


def tools() -> dict[str, str]:
    """Return the version of each library that has shaped a model."""
    versions = {"python": platform.python_version()}
    for name in _TOOLS:
        with suppress(PackageNotFoundError):  # of the two ONNX Runtimes one is installed
            versions[name] = installed(name)
    return versions


def now() -> str:
    """Return the date and time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
