"""`resnet-train fit`: a recipe and a data set become a trained network."""

import copy
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from torch import nn

from models.machine.cores import usable_cores
from models.networks import registry
from training.console import print_text
from training.data.dataset import ImageSet, Normalization, measure
from training.errors import CheckpointError, RecipeError
from training.loop.checkpoint import Checkpoint, claimed, make_folder, read_run, write_atomically
from training.loop.class_results import class_results, confusions, write_csv
from training.loop.device import choose_device, has_bf16
from training.loop.distributed import TrainingProcesses, joined, leads, local
from training.loop.interrupt import Interrupt
from training.loop.pretrained import read_pretrained
from training.loop.recipe import Recipe, load_recipe
from training.loop.run import BEST, LAST, SAVE_SECONDS, Run
from training.loop.scoring import Score
from training.loop.terminal import ProgressBar
from training.loop.trained_network import TrainedNetwork
from training.loop.training_images import load_training_images
from training.options import FitOptions
from training.plots import draw_confusion, draw_curves, draw_worst, has_matrix, to_png

CURVES, CONFUSION = "curves.png", "confusion.png"
"""Names of the pictures in a run's folder."""

_SLOW_BF16 = (
    "there are no instructions for bf16 here, and without them it takes longer than fp32: a run with --precision auto "
    "or fp32 is faster"
)


def fit(options: FitOptions, console: Console, save_seconds: float = SAVE_SECONDS) -> int:
    """Train into the run's folder and return the exit code: 0, or 128 + the signal that stopped the run.

    The folder receives `last.pt`, `best.pt` (by accuracy on the images held back), `metrics.jsonl` (a line per epoch),
    `curves.png`, `confusion.png`, `classes.csv` and `confusions.csv`. The data's test split is never read. Raises
    TrainingError.

    Started by `torchrun`, each process trains on its part of each batch, and the first alone writes and shows anything.
    """
    is_new = _find_folder(options)
    with claimed(options.folder) if leads() else nullcontext(options.folder) as folder:
        try:
            return _fit(options, folder, console, save_seconds)
        except BaseException:
            if is_new and leads():
                _take_back(options.folder, folder)
            raise


def _fit(options: FitOptions, folder: Path, console: Console, save_seconds: float) -> int:
    earlier = _earlier(options)
    recipe = _recipe(options, earlier)
    number, there = local()
    cores = max(1, usable_cores() // there)
    torch.set_num_threads(options.threads or (earlier.state["threads"] if earlier else cores))
    with joined(choose_device(options.device, number)) as processes:
        console = console if processes.leads else Console(quiet=True)
        run = _prepare(options, folder, recipe, earlier, processes, console)
        with Interrupt(patient=processes.size > 1) as interrupt, ProgressBar(console, run) as bar:
            run.train(bar, interrupt, save_seconds)
        if interrupt.agreed is None:
            _conclude(run)
        begun = int(earlier.state["progress"]["epoch"]) if earlier else 0
        print_text(console, _conclusion(run, _place(options.folder, folder), interrupt, begun))
        return interrupt.exit_code


def _recipe(options: FitOptions, earlier: Checkpoint | None) -> Recipe:
    recipe = load_recipe(options.recipe).changed(options.epochs, options.arch, options.arch_arg, options.precision)
    recipe = recipe.stepping(options.lr, options.batch_size)
    recipe = recipe.fine_tuned(str(options.start) if options.start else None, options.body_rate, options.freeze)
    return recipe if earlier is None else replace(recipe, epochs=_epochs(options, earlier))


def _epochs(options: FitOptions, earlier: Checkpoint) -> int:
    """How many epochs a resumed run has: as many as it was begun with, or more."""
    done = int(earlier.state["progress"]["epoch"])
    epochs = options.epochs or Recipe.from_table(earlier.recipe).epochs
    if epochs < done:
        raise CheckpointError(
            f"{options.folder} has finished {done} epochs already, --epochs {epochs} is fewer: give more, or leave out "
            "--epochs"
        )
    return epochs


def _find_folder(options: FitOptions) -> bool:
    """Make the run's folder, or be sure that there is one to go on in; whether it is new."""
    path = options.folder / LAST
    if not options.resume:
        return make_folder(options.folder)
    if not path.exists():
        raise CheckpointError(
            f"there is no {path}: the run has not saved its state yet. Begin by the same command without --resume, or "
            "give the --output of another run"
        )
    return False


def _take_back(path: Path, folder: Path) -> None:
    """Remove the folder of a run that has left nothing in it, unless another has taken its place."""
    with suppress(OSError):
        if path.samefile(folder):
            path.rmdir()


def _earlier(options: FitOptions) -> Checkpoint | None:
    """The checkpoint to go on from, None for a run that begins; no run is ever overwritten."""
    path = options.folder / LAST
    if options.resume:
        return read_run(path)
    if path.exists():
        raise CheckpointError(f"{options.folder} holds a run: go on with it by --resume, or give another --output")
    return None


def _prepare(
    options: FitOptions,
    folder: Path,
    recipe: Recipe,
    earlier: Checkpoint | None,
    processes: TrainingProcesses,
    console: Console,
) -> Run:
    """Load what the run takes: the images, and the network that learns from them."""
    seed = options.seed if options.seed is not None else (earlier.seed if earlier else 0)
    start = _start(recipe, earlier)
    recipe = recipe if start is None else _suited(recipe, start, earlier)
    images, held_back, normalization = processes.make_once(lambda: _load(options, recipe, start, console))
    _check_parts(processes, recipe, images, held_back)
    torch.manual_seed(seed)
    network = _new_network(recipe, images) if start is None else start.network(images.classes)
    _check_sizes(network, recipe, images, held_back, processes)
    network = _synchronised(network, processes) if options.sync_bn else network
    run = Run(
        network,
        recipe,
        images,
        normalization,
        seed,
        held_back=held_back,
        processes=processes,
        folder=folder,
        data=options.data,
    )
    if run.bf16 and not has_bf16(run.device):
        print_text(console, _SLOW_BF16)
    if earlier:
        run.resume(earlier)
        if run.progress.epoch < recipe.epochs and (changed := ", ".join(run.changed_means(earlier))):
            print_text(console, f"the run goes on by other means, and ends with other weights than by those: {changed}")
    return run


def _start(recipe: Recipe, earlier: Checkpoint | None) -> TrainedNetwork | None:
    """What a fine-tuned network starts from; a resumed run has it all, and does not need its source any more."""
    if recipe.start is None:
        return None
    return earlier or read_pretrained(Path(recipe.start))


def _suited(recipe: Recipe, start: TrainedNetwork, earlier: Checkpoint | None) -> Recipe:
    """The recipe for the network that is there, and for pictures of the size that it knows, or knew when it began."""
    known = start.preprocessing.height if earlier is None else Recipe.from_table(earlier.recipe).image_size
    size = recipe.image_size or known
    return replace(recipe, architecture=start.architecture, arguments=start.arguments, image_size=size)


def _load(
    options: FitOptions, recipe: Recipe, start: TrainedNetwork | None, console: Console
) -> tuple[ImageSet, ImageSet, Normalization]:
    images, held_back = load_training_images(
        recipe, options.data, options.data_root, options.strict, console, options.folder, start
    )
    return images, held_back, measure(images) if start is None else start.normalization


def _new_network(recipe: Recipe, images: ImageSet) -> nn.Module:
    try:
        return registry.build(recipe.architecture, classes=len(images.classes), **recipe.arguments)
    except registry.ArchitectureError as error:
        raise RecipeError(str(error)) from error


def _check_sizes(
    network: nn.Module, recipe: Recipe, images: ImageSet, held_back: ImageSet, processes: TrainingProcesses
) -> None:
    """Let images pass as they are trained on, and as they are judged, without computing anything; RecipeError."""
    twin, trained = copy.deepcopy(network).to("meta"), images.images[:1].float()
    if recipe.augmentation is not None:
        amounts = recipe.augmentation.draw(torch.arange(1), 0, torch.Generator())
        trained = recipe.augmentation.apply(trained, amounts)
    part = min(recipe.batch_size, len(images)) // processes.size
    try:
        for shape, train in ((held_back.images.shape[1:], False), (trained.shape[1:], not recipe.freeze)):
            twin.train(train)(torch.empty(part, *shape, device="meta"))
    except RuntimeError as error:
        own = "×".join(map(str, registry.describe(recipe.architecture).input_shape))
        made = "" if shape == images.images.shape[1:] else ", to which the recipe brings them"
        raise RecipeError(
            f"{recipe.architecture} does not take images of {'×'.join(map(str, shape))}{made}, it was made for {own}: "
            "give another image_size in the recipe, another --arch, or other --data"
        ) from error
    except ValueError as error:  # of batch norm, where a channel has a single value
        raise RecipeError(
            f"{part} images at a time are too few for the batch norm of {recipe.architecture}, on images of "
            f"{'×'.join(map(str, shape))}: give a larger --batch-size"
        ) from error


def _check_parts(processes: TrainingProcesses, recipe: Recipe, images: ImageSet, held_back: ImageSet) -> None:
    """Each process needs an image of each batch, and one to judge by."""
    if processes.size > min(recipe.batch_size, len(images), len(held_back) or processes.size):
        raise RecipeError(
            f"{processes.size} processes are more than there are images in a batch, or images held back: start fewer"
        )


def _synchronised(network: nn.Module, processes: TrainingProcesses) -> nn.Module:
    """The network with batch norm over the whole batch instead of each process's part."""
    if processes.size == 1 or processes.device.type != "cuda":
        raise RecipeError("--sync-bn is for several GPUs: start them by torchrun, or leave it out")
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synchronised


def _conclude(run: Run) -> None:
    """Write the figures once more, for a resumed run that was killed before it could, and draw the pictures."""
    score = run.score()  # which takes all processes
    if run.folder is None or not run.processes.leads:
        return
    run.write_metrics()
    title = f"{run.recipe.architecture} on {Path(run.data).name}"
    write_atomically(run.folder / CURVES, to_png(draw_curves(run.progress.history, title)))
    if score is not None:
        title += f", {int(score.confusion.sum()):,} images held back: {score.accuracy:.2%}"
        write_atomically(run.folder / CONFUSION, to_png(_draw_confusion(score, run.images.classes, title)))
        write_csv(run.folder, score.confusion, run.images.classes)


def _draw_confusion(score: Score, labels: tuple[str, ...], title: str) -> Figure:
    """The matrix; of very many classes the worst, and the most frequent confusions."""
    if has_matrix(labels):
        return draw_confusion(score.confusion, labels, title)
    classes = {each.label: each.accuracy for each in class_results(score.confusion, labels) if each.images}
    confused = {f"{each.true}, for {each.predicted}": each.images for each in confusions(score.confusion, labels)}
    return draw_worst(classes, confused, title)


def _place(given: Path, claimed_folder: Path) -> Path:
    """The run's folder by the name that was given, or by the one that it has now."""
    with suppress(OSError):
        if given.samefile(claimed_folder):
            return given
    return claimed_folder.resolve()


def _conclusion(run: Run, folder: Path, interrupt: Interrupt, resumed_at: int) -> str:
    progress = run.progress
    if interrupt.agreed is not None:
        place = f"epoch {progress.epoch + 1}, step {progress.step}"
        saved = f"{folder / LAST} is saved, and the same command with --resume goes on"
        return f"stopped by {interrupt.agreed.name} in {place}; {saved}"
    lines = [f"trained for {sum(row['seconds'] for row in progress.history):.0f} s"]
    if resumed_at == progress.epoch:
        lines = [f"the run had finished its {progress.epoch} epochs: --resume with more --epochs goes on"]
    best = progress.best(len(run.held_back)) if run.held_back else None
    if best is not None and run.held_back:
        last = progress.history[-1]
        lines.append(f"{folder / LAST}  {last['validation_accuracy']:.2%} of {len(run.held_back):,} held back")
        lines.append(f"{folder / BEST}  {best['validation_accuracy']:.2%}, epoch {best['epoch']}")
    return "\n".join(lines)
