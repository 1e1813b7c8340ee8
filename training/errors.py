"""What can be wrong with a training run, each with a message for its user.

TrainingError
├── UsageError       the command line names what does not exist, or what does not go together
├── RecipeError      there is no such recipe, it is not valid, or this machine cannot run it as asked
├── DataError        a data set is missing or not what it should be
├── CheckpointError  a checkpoint cannot be read or written, or is that of another run
├── Diverged         the loss or a weight is no longer a finite number
├── ExportError      the exported graph is not the network
├── WeightsError     weights cannot be fetched or read, or do not fit the network
├── OnnxImportError  an ONNX file is no classifier that can be served, or what is made of it answers otherwise
├── QuantizeError    a model cannot be quantised, or is not better for it
├── ExperimentError  there is no such experiment, or its page cannot be written
└── CompareError     a folder to compare holds no run
"""


class TrainingError(Exception):
    """The message says what is wrong and what to do; commands print it and exit 1."""


class UsageError(TrainingError):
    """The command line names what does not exist, or what does not go together; commands exit 2."""


class RecipeError(TrainingError):
    """There is no such recipe, it is not valid, or this machine cannot run it as asked."""


class DataError(TrainingError):
    """A data set is missing or not what it should be."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be read or written, or is that of another run."""


class Diverged(TrainingError):
    """The loss or a weight is no longer a finite number."""


class ExportError(TrainingError):
    """The exported graph is not the network."""


class WeightsError(TrainingError):
    """Weights cannot be fetched or read, or do not fit the network; the message names the file or the keys."""


class OnnxImportError(TrainingError):
    """An ONNX file is no classifier that can be served, or what is made of it answers otherwise; names the stage."""


class QuantizeError(TrainingError):
    """A model cannot be quantised, or is not better for it."""


class ExperimentError(TrainingError):
    """There is no such experiment, or its page cannot be written."""


class CompareError(TrainingError):
    """A folder to compare holds no run."""
