"""`resnet-serve check`: would this repository be served?"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console
from rich.table import Table

from models.artifact import ArtifactError, read_artifact
from models.engine import EngineError
from service.machine import choose_device, usable_cores
from service.repository import highest_versions
from service.settings import DeviceName, EngineName, Positive, command_line
from service.worker import Load, load_model


class Check(BaseSettings):
    """Load every model of a repository, verify its golden examples, warm it, and report; nothing is served."""

    model_config = command_line("resnet-serve check")

    repository: CliPositionalArg[Path] = Field(description="folder of <model>/<version>/model.onnx")
    engine: EngineName = Field("auto", description="what runs the networks; auto is onnxruntime")
    device: DeviceName = Field("auto", description="auto is cuda where nvidia-smi lists a GPU, else cpu")
    max_batch_size: Positive = Field(32, description="largest batch to warm up with")


def check(options: Check) -> int:
    """Print a line a model; 0 if all would be served, else 1."""
    accelerator, _ = choose_device(options.device)
    device = "cpu" if accelerator == "cpu" else "cuda:0"
    load = Load(options.engine, usable_cores(), options.max_batch_size)
    table = Table("model", "version", "state", "ms a batch of 1", f"ms a batch of {options.max_batch_size}")
    failures = 0
    for directory in highest_versions(options.repository):
        row = [directory.parent.name, directory.name]
        try:
            model = load_model(read_artifact(directory), device, load)
        except (ArtifactError, EngineError) as error:
            failures += 1
            table.add_row(*row, f"[red]failed[/red]: {error}")
        else:
            latency = model.latency_ns
            table.add_row(*row, "ready", f"{latency[1] / 1e6:.3f}", f"{latency[options.max_batch_size] / 1e6:.3f}")
    Console().print(table)
    return 1 if failures else 0
