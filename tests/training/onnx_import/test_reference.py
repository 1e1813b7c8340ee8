"""A script that prepares pictures otherwise than an import was told is found out by its answers, and by which stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.postprocess import softmax
from tests.training.command import Ended, resnet_train
from tests.training.onnx_import.exported import LABELS, SIDE, export, tiny
from tests.training.onnx_import.pictures_of_theirs import MEAN, STD, inputs, photos

Logits = NDArray[np.float32]

FAULTS: dict[str, tuple[dict[str, Any], Callable[[Logits], Logits], str]] = {
    "BGR": ({"bgr": True}, np.asarray, "Stage layout: the maker's script takes the channels in the order BGR"),
    "wrong mean": (
        {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        np.asarray,
        "Stage normalise: the maker's script normalises to ImageNet's mean and deviation; say --mean 0.485,0.456,0.406",
    ),
    "no antialias": ({"antialias": False}, np.asarray, "Stage resize: the maker's script shrinks pictures without"),
    "NCHW for NHWC": (
        {"transposed": False},
        np.asarray,
        "Stage layout: the maker's script reads the numbers of [height, width, channels] as if they were [channels,",
    ),
    "softmax twice": (
        {},
        lambda logits: softmax(softmax(logits)),
        "Stage graph: the maker's script applies softmax twice",
    ),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    photos(folder / "pictures")
    return export(tiny(), folder / "net.onnx")


def run(network: Path, folder: Path, pictures: Path | None = None, **arrays: NDArray[np.float32]) -> Ended:
    """Import with a reference of these arrays, on the pictures beside the network if no others are given."""
    np.savez(folder / "reference.npz", **arrays)
    numbers = [",".join(map(str, values)) for values in (MEAN, STD)]
    words = ["--labels", ",".join(LABELS), "--mean", numbers[0], "--std", numbers[1], "--name", "theirs"]
    more = ["--pictures", pictures or network.parent / "pictures", "--reference", folder / "reference.npz"]
    return resnet_train("import", network, *words, *more, "--repository", folder / "models")


def answers(network: Path, given: NDArray[np.float32]) -> Logits:
    """ONNX Runtime's own, as a script gets them."""
    session = ort.InferenceSession(network)
    (entry,) = session.get_inputs()
    return np.concatenate([session.run(None, {entry.name: one[None]})[0] for one in given])


def files(network: Path) -> list[Path]:
    return sorted((network.parent / "pictures").iterdir())


def test_a_script_that_clips_grey_pictures_of_16_bits_is_told_so(network: Path, tmp_path: Path) -> None:
    (folder := tmp_path / "grey").mkdir()
    levels = np.random.default_rng(4).integers(0, 1 << 16, (64, 3 * SIDE, 3 * SIDE), np.uint16)
    for index, each in enumerate(levels):
        Image.fromarray(each >> index % 8).save(folder / f"{index:02}.png")
    ended = run(network, tmp_path, folder, logits=answers(network, inputs(sorted(folder.iterdir()))))
    assert ended.code == 1
    assert "Stage decode: the maker's script takes 255 for all above it in grey pictures of 16 bits" in ended.errors


def turned(image: Image.Image, file: Path) -> None:
    """Save the picture as a camera that was held upright does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(file, exif=exif)


def transparent(image: Image.Image, file: Path) -> None:
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(file)


def deep(image: Image.Image, file: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(file)


RARE = {
    "turned": ([turned], "does not turn pictures as their EXIF orientation asks"),
    "transparent": ([transparent], "shows the colours beneath transparent parts"),
    "all": ([turned, transparent, deep], 'only says Image.open(path).convert("RGB")'),
}


@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("kind", RARE)
def test_a_script_that_only_opens_pictures_is_told_so_where_few_are_answered_otherwise(
    kind: str, with_inputs: bool, network: Path, tmp_path: Path
) -> None:
    saves, message = RARE[kind]
    pictures = photos(folder := tmp_path / "rare")
    for file, save in zip(pictures[-6:], saves * 6, strict=False):
        with Image.open(file) as image:
            save(image.copy(), file)
    given = inputs(pictures)
    ended = run(network, tmp_path, folder, logits=answers(network, given), **({"inputs": given} if with_inputs else {}))
    assert ended.code == 1
    assert f"Stage decode: the maker's script {message}" in ended.errors


@pytest.mark.parametrize("with_inputs", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_script_is_named_by_its_stage(
    fault: str, with_inputs: bool, network: Path, tmp_path: Path
) -> None:
    faults, twist, message = FAULTS[fault]
    given = inputs(files(network), **faults)
    arrays = {"logits": twist(answers(network, given))} | ({"inputs": given} if with_inputs else {})
    ended = run(network, tmp_path, **arrays)
    assert ended.code == 1
    assert message in ended.errors
    assert not list(tmp_path.glob("models/*/*"))


@pytest.mark.parametrize("twist", [np.asarray, softmax])
def test_a_script_that_does_as_was_told_proves_the_import(
    twist: Callable[[Logits], Logits], network: Path, tmp_path: Path
) -> None:
    ended = run(network, tmp_path, logits=twist(answers(network, inputs(files(network)))))
    assert ended.code == 0, ended.errors
    assert "its maker's own answers: 64 of 64 pictures get the same class" in ended.output


def test_a_normalisation_that_nobody_else_has_is_told_in_numbers(network: Path, tmp_path: Path) -> None:
    given = inputs(files(network), mean=(0.3, 0.4, 0.6), std=(0.1, 0.2, 0.4))
    ended = run(network, tmp_path, logits=answers(network, given), inputs=given)
    assert "Stage normalise: the maker's script normalises with mean 0.3" in ended.errors


def test_a_reference_of_other_pictures_is_refused(network: Path, tmp_path: Path) -> None:
    ended = run(network, tmp_path, logits=np.zeros((3, 5), np.float32))
    assert "the reference has logits [3, 5], and 64 pictures have [64, 5]" in ended.errors
    ended = run(network, tmp_path, outputs=np.zeros((64, 5), np.float32))
    assert "reference.npz holds outputs; needed is a .npz, .safetensors or .pt file" in ended.errors
