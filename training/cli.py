"""The commands of `resnet-train`."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def train() -> None:
    """Train residual networks, look at them, and export them."""


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="The network, e.g. resnet18.")],
    classes: Annotated[int | None, typer.Option(min=1, help="How many classes, if not its own number.")] = None,
    arch_arg: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An argument of the network, e.g. shortcut=B.")
    ] = None,
) -> None:
    """Show a network's layers: output shapes, parameters, multiply-adds."""
    from rich.console import Console

    from models import registry
    from training.info import print_info

    try:
        print_info(name, classes, registry.parse_arguments(arch_arg or []), Console())
    except registry.ArchitectureError as error:
        raise typer.BadParameter(str(error)) from error


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="resnet-train")
