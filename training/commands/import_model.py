"""`resnet-train import`: what others trained becomes a released model, by the kind of its file."""

from typing import Protocol

from models.artifact.artifact import vacant_directory
from training.commands.import_onnx import SUFFIXES, import_onnx
from training.commands.import_weights import import_weights
from training.options import ImportOptions
from training.stages import Stages


class ImportReport(Protocol):
    """What was written, and what proves it."""

    def report(self) -> str:
        """Lines for people."""
        ...


def import_model(options: ImportOptions, stages: Stages | None = None) -> ImportReport:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError, of a taken place at once."""
    vacant_directory(options.repository, options.name, options.version)
    stages = stages or Stages()
    if options.source.lower().endswith(SUFFIXES):
        return import_onnx(options, stages)
    return import_weights(options, stages)
