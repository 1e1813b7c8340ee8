"""torchvision's published ResNets: where their weights are, and which pictures and classes these are for."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision.models import WeightsEnum, get_model_weights

from models.networks.resnet import BASIC, BOTTLENECK
from training.errors import WeightsError
from training.weights.model_spec import ModelSpec


def find(source: str) -> Path | None:
    """Return the file of the release that is named, downloaded if it is not there; None if this names a file.

    WeightsError if there is no such release, or it cannot be downloaded.
    """
    if "_Weights." not in source or Path(source).exists():
        return None
    return download(by_name(source))


def by_name(name: str) -> WeightsEnum:
    """Return the release of this name; `DEFAULT` is the newest of a network. WeightsError if there is none."""
    releases = list(_releases())
    for kind in {type(release) for release in releases}:
        if name in {f"{kind.__name__}.{member}" for member in kind.__members__}:
            return kind[name.partition(".")[2]]
    raise WeightsError(f"no weights {name!r}; there are {', '.join(map(str, releases))}")


def by_sha256(sha256: str) -> WeightsEnum | None:
    """Return the release whose file has this digest; the file's name does not matter."""
    for release in _releases():
        if sha256.startswith(_digest(release)):
            return release
    return None


def download(release: WeightsEnum) -> Path:
    """Return the release's file in torch's cache (`TORCH_HOME`), fetched if it is not there; WeightsError if not."""
    url: str = release.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_digest(release))
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{url} cannot be downloaded ({error}); fetch it where that is possible, and import the file"
        ) from error
    return path


def model_spec(release: WeightsEnum) -> ModelSpec:
    """Return the preprocessing that torchvision evaluates these weights with, and ImageNet's names of its classes."""
    preset = release.transforms()
    (size,), (resize,) = preset.crop_size, preset.resize_size
    mean, std = tuple(preset.mean), tuple(preset.std)
    return ModelSpec(labels=tuple(release.meta["categories"]), mean=mean, std=std, size=size, resize=resize)


def metrics(release: WeightsEnum) -> dict[str, str | int | float]:
    """Return torchvision's own figure, marked as published: nothing was measured here."""
    accuracy = release.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
    return {"published_accuracy": accuracy, "published_data": "ImageNet-1K validation", "publisher": "torchvision"}


def _releases() -> Iterator[WeightsEnum]:
    for depth in BASIC | BOTTLENECK:
        yield from get_model_weights(f"resnet{depth}")


def _digest(release: WeightsEnum) -> str:
    """The beginning of the SHA-256, which torchvision keeps in the file's name."""
    return str(Path(release.url).stem.rpartition("-")[2])
