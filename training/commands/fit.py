"""`resnet-train fit`: a recipe and a data set become a trained network."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from models.machine.cores import usable_cores
from models.networks import registry
from training.data.dataset import ImageSet, Normalization, measure
from training.errors import CheckpointError, RecipeError
from training.loop.checkpoint import Checkpoint, read_checkpoint
from training.loop.device import Choice, choose
from training.loop.distributed import Ranks, joined, local
from training.loop.interrupt import Interrupt
from training.loop.pretrained import Pretrained, read_pretrained
from training.loop.progress_bar import ProgressBar
from training.loop.recipe import Recipe
from training.loop.run import BEST, LAST, Run
from training.loop.trainer import Trainer
from training.loop.training_images import load_images

_SAVE_SECONDS = 30.0  # between checkpoints within an epoch: what a killed run loses at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the command line asks for; no seed or number of threads means the resumed run's, else 0 and every core."""

    recipe: Recipe
    data: str
    data_root: Path
    output: Path
    seed: int | None = None
    threads: int | None = None
    resume: bool = False
    strict: bool = False
    device: Choice = "auto"
    sync_batch_norm: bool = False


def fit(job: Job, console: Console, save_seconds: float = _SAVE_SECONDS) -> int:
    """Train into the folder `output` and return the exit code: 0, or 128 + the signal that stopped the run.

    The folder receives `last.pt`, `best.pt` (by accuracy on the images held back), `metrics.jsonl` (a line per epoch),
    `curves.png` and `confusion.png`. The data's test split is never read. Raises TrainingError.

    Started by `torchrun`, each process trains on its part of each batch, and the first alone writes and shows anything.
    """
    number, there = local()
    earlier = _earlier(job)
    cores = max(1, usable_cores() // there)
    torch.set_num_threads(job.threads or (earlier.state["threads"] if earlier else cores))
    with joined(choose(job.device, number)) as ranks:
        run = _run(job, earlier, ranks, console if ranks.leads else Console(quiet=True))
        return _train(run, console if ranks.leads else Console(quiet=True), save_seconds)


def _train(run: Run, console: Console, save_seconds: float) -> int:
    patient = run.trainer.ranks.size > 1
    with Interrupt(patient=patient) as interrupt, ProgressBar(console, run.trainer) as bar:
        run.train(bar, interrupt, save_seconds)
    if interrupt.signal is None:
        run.conclude()
    console.print(_conclusion(run, interrupt), highlight=False, soft_wrap=True)
    return interrupt.exit_code


def _earlier(job: Job) -> Checkpoint | None:
    """The checkpoint to go on from; a run is never overwritten, and one that is not there never begun by mistake."""
    path = job.output / LAST
    if job.resume:
        return read_checkpoint(path)
    if path.exists():
        raise CheckpointError(f"{job.output} holds a run: go on with it by --resume, or give another --output")
    try:
        job.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"{job.output} cannot be made: {error.strerror}") from error
    return None


def _run(job: Job, earlier: Checkpoint | None, ranks: Ranks, console: Console) -> Run:
    seed = job.seed if job.seed is not None else (earlier.seed if earlier else 0)
    start = _start(job.recipe, earlier)
    recipe = job.recipe if start is None else _suited(job.recipe, start)
    images, held_back, normalization = ranks.made_once(lambda: _taken_in(job, recipe, start, console))
    _check_parts(ranks, recipe, images, held_back)
    torch.manual_seed(seed)
    network = _network(recipe, images) if start is None else start.network(images.classes)
    _check_input(network, recipe, images)
    trainer = Trainer(_synchronised(network, ranks, job), recipe, images, normalization, seed, ranks)
    run = Run(job.output, job.data, trainer, held_back)
    if earlier:
        run.resume(earlier)
    return run


def _taken_in(
    job: Job, recipe: Recipe, start: Pretrained | None, console: Console
) -> tuple[ImageSet, ImageSet, Normalization]:
    images, held_back = load_images(recipe, job.data, job.data_root, job.strict, console, job.output)
    return images, held_back, measure(images) if start is None else start.normalization


def _start(recipe: Recipe, earlier: Checkpoint | None) -> Pretrained | None:
    """What a fine-tuned network starts from; a resumed run has it all, its source need not be there any more."""
    if recipe.start is None:
        return None
    return Pretrained.of(earlier) if earlier else read_pretrained(Path(recipe.start))


def _suited(recipe: Recipe, start: Pretrained) -> Recipe:
    """The recipe for the network that is there, and for pictures of the size that it knows."""
    size = recipe.image_size or start.preprocessing.height
    return replace(recipe, architecture=start.architecture, arguments=start.arguments, image_size=size)


def _network(recipe: Recipe, images: ImageSet) -> nn.Module:
    try:
        return registry.build(recipe.architecture, classes=len(images.classes), **recipe.arguments)
    except registry.ArchitectureError as error:
        raise RecipeError(str(error)) from error


def _check_input(network: nn.Module, recipe: Recipe, images: ImageSet) -> None:
    try:
        with torch.inference_mode():
            network.eval()(images.images[:1].float())
    except RuntimeError as error:
        shape = "×".join(map(str, images.images.shape[1:]))
        raise RecipeError(f"{recipe.architecture} does not take images of {shape}: {error}") from error


def _check_parts(ranks: Ranks, recipe: Recipe, images: ImageSet, held_back: ImageSet) -> None:
    """Each process needs an image of each batch, and one to judge by."""
    if ranks.size > min(recipe.batch_size, len(images), len(held_back) or ranks.size):
        raise RecipeError(f"{ranks.size} processes are more than there are images in a batch, or images held back")


def _synchronised(network: nn.Module, ranks: Ranks, job: Job) -> nn.Module:
    """The network with batch norm over the whole batch, if that is asked for, instead of each process's part."""
    if not job.sync_batch_norm:
        return network
    if ranks.size == 1 or ranks.device.type != "cuda":
        raise RecipeError("--sync-bn is for several GPUs: start them by torchrun, or leave it out")
    synchronised: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return synchronised


def _conclusion(run: Run, interrupt: Interrupt) -> str:
    progress = run.trainer.progress
    if interrupt.signal is not None:
        place = f"epoch {progress.epoch + 1}, step {progress.step}"
        return f"stopped by {interrupt.signal.name} in {place}; saved: the same command with --resume goes on"
    lines = [f"trained for {sum(row['seconds'] for row in progress.history):.0f} s"]
    judged = [row for row in progress.history if "validation_accuracy" in row]
    if judged:
        best = max(judged, key=lambda row: row["validation_accuracy"])
        lines.append(
            f"{run.folder / LAST}  {judged[-1]['validation_accuracy']:.2%} of {len(run.held_back):,} held back"
        )
        lines.append(f"{run.folder / BEST}  {best['validation_accuracy']:.2%}, epoch {best['epoch']}")
    return "\n".join(lines)
