"""`resnet-train info`: a network as a table of its layers."""

from collections.abc import Sequence

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from models.networks import registry
from training.errors import UsageError
from training.layer_profile import LayerRow, profile_layers
from training.options import InfoOptions


def print_info(options: InfoOptions, console: Console) -> None:
    """Print a network of the registry as a table of its layers; UsageError if there is no such network."""
    try:
        arguments = registry.parse_arguments(options.arch_arg)
        with torch.device("meta"):
            network = registry.build(options.name, classes=options.classes, **arguments)
    except registry.ArchitectureError as error:
        raise UsageError(str(error)) from error
    input_shape = registry.describe(options.name).shape_with(arguments)
    console.print(_table(f"{options.name}, input {_shape(input_shape)}", profile_layers(network, input_shape)))


def _table(title: str, rows: Sequence[LayerRow]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, show_footer=True)
    table.add_column("layer", "total", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", f"{sum(row.parameters for row in rows):,}", justify="right", no_wrap=True)
    table.add_column("multiply-adds", f"{sum(row.multiply_adds for row in rows):,}", justify="right", no_wrap=True)
    for row in rows:
        numbers = (f"{number:,}" if number else "" for number in (row.parameters, row.multiply_adds))
        table.add_row(row.name, row.kind, _shape(row.output_shape), *numbers)
    return table


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
