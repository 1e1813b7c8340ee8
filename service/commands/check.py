"""`resnet-serve check`: would this repository be served?"""

from dataclasses import replace
from typing import NamedTuple

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console
from rich.table import Column, Table

from models.artifact.artifact import Artifact, OriginCheck, read_artifact
from models.artifact.metadata import ArtifactError
from models.command_line import command_line
from models.engines.backend import candidates
from models.engines.engine import EngineError
from models.machine.cores import usable_cores
from models.machine.devices import choose_device, first_device
from models.machine.memory import memory_since, own_memory, trim_memory, usable_memory
from service.catalog.repository import ModelFolder, list_models, signed_by
from service.catalog.repository_place import RepositoryPlace
from service.config.setting_types import CacheDir, DeviceName, EngineName, FetchTimeout, PrecisionName, SigningKey
from service.config.settings import ENV_PREFIX, MOST_IN_BATCH
from service.remote.fetch import fetch
from service.worker.trial import Selector
from service.worker.warmup import LoadOptions, load_model

TRIAL_S = 600.0  # for each way to run a model, if there is a choice
MIB = 1 << 20


class Check(BaseSettings):
    """Load every model of a repository, verify its golden examples, warm it, and report; nothing is served."""

    model_config = command_line("resnet-serve check", env_prefix=ENV_PREFIX)

    repository: CliPositionalArg[RepositoryPlace] = Field(
        description="folder of <model>/<version>/model.onnx, or its s3://, gs://, hf:// or https:// address"
    )
    cache_dir: CacheDir = None
    fetch_timeout: FetchTimeout = 600.0
    require_signature: SigningKey = None
    engine: EngineName = "auto"
    device: DeviceName = "auto"
    precision: PrecisionName = Field("auto", description="of the arithmetic; auto is fp32 on a CPU and tf32 on a GPU")
    max_accuracy_loss: float = Field(0.5, ge=0, le=100, description="points of accuracy that fastest may cost")
    compile: bool = Field(False, description="compile the networks of --engine torch, which takes minutes")
    max_batch_size: int = Field(0, ge=0, le=MOST_IN_BATCH, description="most images in one batch; 0: as many as pay")
    workers: int = Field(0, ge=0, description="worker processes that are to have the models; 0: one a core")
    memory_budget: int = Field(
        0, ge=0, description="bytes that loaded models may take in all workers; 0: there is no bound"
    )


class MeasuredModel(NamedTuple):
    """What runs a model, the most images in a batch that pay, what an image takes alone and in it, and the memory."""

    engine: str
    batch_size: int
    alone_ms: float
    batched_ms: float
    memory_bytes: int

    def cells(self) -> tuple[str, ...]:
        """The model as cells of a row in the table."""
        memory_mib = self.memory_bytes / MIB
        return self.engine, str(self.batch_size), f"{self.alone_ms:.3f}", f"{self.batched_ms:.3f}", f"{memory_mib:.1f}"


def check(options: Check) -> int:
    """Print a line a model; 0 if all would be served, else 1."""
    accelerator, _ = choose_device(options.device)
    device = first_device(accelerator)
    candidates(options.engine, device, options.precision, options.compile)
    check_origin = signed_by(options.require_signature)
    repository = fetch(options.repository, options.cache_dir, options.fetch_timeout)
    folders = list_models(repository.folder)
    sizes = {folder.name: options.max_batch_size for folder in folders}
    load = LoadOptions(
        options.engine, options.precision, options.compile, usable_cores(), sizes, options.max_accuracy_loss
    )
    selector = Selector(device, load, TRIAL_S)
    table = _empty_table()
    problems: list[str] = []
    taken = 0  # bytes of memory, by all models that can be loaded
    for folder in folders:
        place = f"{folder.name}/{folder.versions[0].name}" if folder.versions else folder.name
        try:
            model = _measure(_read(folder, check_origin), device, load, selector)
        except (ArtifactError, EngineError) as error:
            problems.append(f"{place}: {error}")
            table.add_row(place, "[red]failed[/red]")
        else:
            taken += model.memory_bytes
            table.add_row(place, "ready", *model.cells())
    console = Console()
    console.print(table)
    if accelerator == "cpu":
        console.print(_tell_memory(taken, options), highlight=False, soft_wrap=True)
    problems += repository.problems
    for problem in problems:
        console.print(problem, highlight=False, markup=False, soft_wrap=True)
    return 1 if problems else 0


def _empty_table() -> Table:
    return Table(
        Column("model", no_wrap=True),
        "state",
        Column("run by", no_wrap=True),
        "batch",
        "ms alone",
        "ms in batch",
        "MiB",
        caption="batch: most images that pay; ms: of an image; MiB: in each worker",
    )


def _measure(artifact: Artifact, device: str, load: LoadOptions, selector: Selector) -> MeasuredModel:
    """Load, prove and warm a model, which is gone before the next one is measured; ArtifactError or EngineError."""
    choices = selector.choices([artifact])
    trim_memory()
    before = own_memory()
    model = load_model(artifact, device, replace(load, choices=choices))
    size, latency_ns = model.max_batch_size, model.latency_ns
    return MeasuredModel(
        f"{model.engine.name} {model.engine.precision}",
        size,
        latency_ns[1] / 1e6,
        latency_ns[size] / size / 1e6,
        memory_since(before),
    )


def _tell_memory(taken: int, options: Check) -> str:
    """What all models take that so many bytes were measured for, and what there is for them."""
    workers = options.workers or usable_cores()
    budget, total = options.memory_budget, workers * taken
    text = (
        f"{taken / MIB:.1f} MiB of memory in a worker with all models, {total / MIB:.1f} in {workers}; "
        f"{usable_memory() / MIB:.0f} may be used here, by all of the server"
    )
    if budget:
        fits = "all fit" if total <= budget else "those that do not fit are loaded when they are asked for"
        text += f"; --memory-budget is {budget / MIB:.1f}: {fits}"
    return text


def _read(folder: ModelFolder, check_origin: OriginCheck | None) -> Artifact:
    """The highest version; ArtifactError."""
    if folder.problem:
        raise ArtifactError(folder.problem)
    return read_artifact(folder.versions[0], check_origin)
