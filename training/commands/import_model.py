"""`resnet-train import`: what others trained becomes a released model, by the kind of its file."""

from typing import Protocol

from models.artifact.artifact import vacant_directory
from models.command_line import flag
from training.commands.import_onnx import SUFFIXES, import_onnx
from training.commands.import_weights import import_weights
from training.errors import UsageError
from training.options import ImportOptions
from training.stages import Stages

_OF_GRAPHS = ("layout", "channel_order", "output", "pictures")
"""Options that tell of an ONNX file."""

_OF_WEIGHTS = ("zero_channels", "prefix")
"""Options that tell of weights."""


class ImportReport(Protocol):
    """What was written, and what proves it."""

    def report(self) -> str:
        """Lines for people."""
        ...


def import_model(options: ImportOptions, stages: Stages) -> ImportReport:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError, of a taken place at once."""
    is_graph = options.source.lower().endswith(SUFFIXES)
    _refuse_what_is_not_read(options, is_graph=is_graph)
    vacant_directory(options.repository, options.name, options.version)
    return import_onnx(options, stages) if is_graph else import_weights(options, stages)


def _refuse_what_is_not_read(options: ImportOptions, *, is_graph: bool) -> None:
    """UsageError for an option that this kind of file ignores: the model would not be what was asked for."""
    names = _OF_WEIGHTS if is_graph else _OF_GRAPHS
    changed = (name for name in names if getattr(options, name) != ImportOptions.model_fields[name].default)
    given = next(map(flag, changed), None)
    if given is None:
        return
    if is_graph:
        raise UsageError(f"{given} tells of weights, and {options.source} is an ONNX file: leave {given} out")
    raise UsageError(
        f"{given} tells of an ONNX file, and {options.source} is none: leave {given} out, or export the network to "
        "ONNX and import that"
    )
