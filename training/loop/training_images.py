"""The images of a run, and what its user should know of them."""

from pathlib import Path

from rich.console import Console

from models.images.preprocessing import Preprocessing
from models.networks import registry
from training.console import print_text
from training.data import sources
from training.data.class_names import named
from training.data.dataset import ImageSet
from training.data.image_files import FileSet
from training.data.mapped_images import Room
from training.data.preprocessing_spec import spec_of_files
from training.data.sources import Images, namesake
from training.errors import DataError, RecipeError
from training.loop.checkpoint import Checkpoint
from training.loop.learned_images import count_learned
from training.loop.recipe import Recipe
from training.loop.trained_network import TrainedNetwork
from training.stages import Stages

_MOST_NAMED = 20
"""Unreadable files that are told by name."""

_MOST_AT_AN_END = 5
"""Classes that are told by name of the largest, and of the smallest."""

_FEW = 50
"""Images held back below which their accuracy is off by more than 7 points in a third of all cases, at 50 %."""

_BALANCED = 2
"""Ratio of the largest class to the smallest up to which nothing is said."""


def load_training_images(
    recipe: Recipe,
    data: str,
    root: Path,
    strict: bool,
    console: Console,
    folder: Path | None = None,
    start: TrainedNetwork | None = None,
) -> tuple[ImageSet, ImageSet]:
    """Return the images to train on and those held back, and report unreadable files and unequal classes.

    Those held back are as a server will see them; if the recipe has a `crop`, they are smaller than the others.
    Picture files are decoded into `folder`, as `FileSet.allocate` does it. How many of those held back the `start` has
    learned from is told.
    Raises RecipeError, and DataError, also for unreadable files if `strict`.
    """
    spec, judged = _decodings(recipe)
    images, held_back = sources.load_training(data, root, recipe.validation)
    _report_source(images, held_back, data, recipe, spec, console)
    with Stages(console) as stages:
        # Both before the first is decoded, which may take an hour: then a full disk is told at once.
        room, room_held_back = _allocated(images, spec, folder), _allocated(held_back, judged, folder)
        if isinstance(start, Checkpoint):
            _report_learned(held_back, start, console)
        decoded = _decoded(images, spec, room, stages), _decoded(held_back, judged, room_held_back, stages)
    if isinstance(images, FileSet) and isinstance(held_back, FileSet):
        _report_unreadable(images.unreadable | held_back.unreadable, strict, console)
    _report_balance(decoded[0], console)
    if len(held_back) and not len(decoded[1]):
        raise DataError("none of the images that are held back to judge by can be read: replace or remove them")
    _report_few(len(decoded[1]), console)
    return decoded


def _report_source(
    images: Images, held_back: Images, data: str, recipe: Recipe, spec: Preprocessing, console: Console
) -> None:
    """Tell what is read, and of which size; RecipeError if the recipe has a crop and the data are no picture files."""
    if isinstance(images, FileSet):
        notes = images.notes + (held_back.notes if isinstance(held_back, FileSet) else ())
        for note in dict.fromkeys(notes):
            print_text(console, note)
        size = f"{spec.width}x{spec.height} pixels"
        told = f"reading {len(images) + len(held_back):,} images of {data}, as {size}; classes: {named(images.classes)}"
        print_text(console, told)
        return
    if told := namesake(data):
        print_text(console, told)
    if recipe.crop is not None:
        raise RecipeError(
            f"the recipe's crop is for picture files, and {data} has pixels of a size of its own: take crop out of the "
            "recipe, or give a folder"
        )
    if recipe.image_size not in (None, *images.images.shape[2:]):
        height, width = images.images.shape[2:]
        told = f"image_size {recipe.image_size} is for picture files: {data} keeps its own {width}x{height} pixels"
        print_text(console, told)


def _decodings(recipe: Recipe) -> tuple[Preprocessing, Preprocessing]:
    """How files become images to train on, and to judge by."""
    try:
        channels, side, _ = registry.describe(recipe.architecture).shape_with(recipe.arguments)
    except registry.ArchitectureError as error:
        raise RecipeError(str(error)) from error
    size = recipe.image_size or side
    return spec_of_files(channels, size), spec_of_files(channels, size, recipe.crop)


def _allocated(images: Images, spec: Preprocessing, folder: Path | None) -> Room | None:
    return images.allocate(spec, folder) if isinstance(images, FileSet) else None


def _decoded(images: Images, spec: Preprocessing, room: Room | None, stages: Stages) -> ImageSet:
    return images.decode(spec, room, stages) if isinstance(images, FileSet) else images


def _report_unreadable(unreadable: dict[str, str], strict: bool, console: Console) -> None:
    if not unreadable:
        return
    lines = [f"  {name}: {reason}" for name, reason in sorted(unreadable.items())[:_MOST_NAMED]]
    if len(unreadable) > _MOST_NAMED:
        lines.append(f"  and {len(unreadable) - _MOST_NAMED:,} more")
    several = f"{len(unreadable):,} files cannot be read as images:"
    told = "\n".join(["1 file cannot be read as an image:" if len(unreadable) == 1 else several, *lines])
    if strict:
        raise DataError(f"{told}\nremove or replace them, or let them be skipped: without --strict")
    print_text(console, f"{told}\nthey are skipped")


def _report_balance(images: ImageSet, console: Console) -> None:
    counts = images.labels.bincount(minlength=len(images.classes)).tolist()
    counted = list(zip(images.classes, counts, strict=True))
    if missing := [name for name, count in counted if not count]:
        raise DataError(
            f"there is no image to train on of {', '.join(missing)}: add some that can be read, or remove the class"
        )
    if max(counts) > _BALANCED * min(counts):
        told = [f"{name} {count:,}" for name, count in sorted(counted, key=lambda pair: -pair[1])]
        if (left := len(told) - 2 * _MOST_AT_AN_END) > 0:
            told[_MOST_AT_AN_END:-_MOST_AT_AN_END] = [f"{left:,} more between"]
        print_text(console, f"the classes are unequal: {', '.join(told)}")


def _report_learned(held_back: Images, start: Checkpoint, console: Console) -> None:
    if not (count := count_learned(held_back, start)):
        return
    told = (
        f"at least {count:,} of the {len(held_back):,} images held back are among those that the start was trained on: "
        "their accuracy says too much; put images that are new to it into a val/"
    )
    print_text(console, told)


def _report_few(held_back: int, console: Console) -> None:
    if not 0 < held_back < _FEW:
        return
    if held_back == 1:
        told = "1 image is held back to judge by, which means nothing: its accuracy will be 0 % or 100 %"
    else:
        told = f"{held_back} images are held back to judge by, which are few: one is worth {100 / held_back:.1f} points"
    advice = "put more into val/, or without one give a recipe with a larger validation"
    print_text(console, f"{told}; {advice}")
