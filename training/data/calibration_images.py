"""The images that a model in 8 bits is made and judged with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.data import sources
from training.data.archives import find_store
from training.data.dataset import hold_out, renamed
from training.data.folder_tree import is_picture, read_tree
from training.data.image_files import FileSet
from training.data.sources import Images
from training.errors import DataError

FEWEST = 8
"""Images below which no range is worth anything."""

_HELD_BACK = 0.1
"""Share of the images that layers are chosen by, where the recipe held back none."""


@dataclass(frozen=True, slots=True)
class CalibrationImages:
    """Images to calibrate on, in random order, others to choose layers by, and those that tell what it cost.

    `labelled`: the latter two have the model's classes; else all that they can tell is whether two models agree.
    """

    calibration: Images
    choice: Images
    judged: Images
    labelled: bool


def load_calibration_images(data: str, root: Path, labels: Sequence[str], fraction: object) -> CalibrationImages:
    """Read a data set with training and test images of these classes, or any pictures at all; DataError.

    `fraction` is what the recipe held back of the training images, unless there is a val/: layers are chosen by images
    never trained on.
    """
    images, held, test = _load(data, root)
    if len(images) < FEWEST:
        raise DataError(
            f"{data} holds {len(images)} images, which are too few to calibrate on: {FEWEST} at least are needed"
        )
    labelled = test is not None and set(images.classes) | set(test.classes) <= set(labels)
    if held is not None and len(held):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        calibration, choice = images.take(order), renamed(held, images.classes, f"val/ of {data}")
    else:
        own = fraction if isinstance(fraction, float) and labelled and round(len(images) * fraction) else _HELD_BACK
        calibration, choice = hold_out(images, own)
    return CalibrationImages(calibration, choice, test if labelled and test is not None else choice, labelled)


def _load(data: str, root: Path) -> tuple[Images, Images | None, Images | None]:
    """The training images, those of a val/ and the test images; or all pictures of a folder or archive."""
    try:
        images = sources.load(data, root, "train")
    except DataError:
        if (pictures := _pictures(Path(data).expanduser())) is None:
            raise
        return pictures, None, None
    held = sources.validation_folder(data)
    try:
        return images, held, sources.load(data, root, "test")
    except DataError:
        return images, held, None


def _pictures(path: Path) -> FileSet | None:
    """Every picture of a folder or archive, whatever its folders mean."""
    store = find_store(path)
    if store is None:
        return None
    entries = tuple(entry for entry in read_tree(store).entries() if is_picture(entry))
    return FileSet(store, entries, torch.zeros(len(entries), dtype=torch.int64), ("picture",))
