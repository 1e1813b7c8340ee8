"""`resnet-train import model.onnx`: the released model answers as PyTorch does behind torchvision's preprocessing."""

import json
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2
from transformers import ViTImageProcessorPil

from benchmarks.onnx_imports import measure
from models.artifact.artifact import Artifact, read_artifact
from models.engines.loader import load_engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.postprocess import softmax
from tests.training.command import Ended, resnet_train
from tests.training.onnx_import.exported import LABELS, SIDE, Wrapped, export, tiny

MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)
NUMBERS = ("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD)))


def run_import(file: Path, *options: str | Path | int, labels: tuple[str, ...] = LABELS) -> Ended:
    command = ("import", file, "--name", "theirs", "--repository", file.parent / "models")
    return resnet_train(*command, "--labels", ",".join(labels), *options)


def imported(file: Path, *options: str | Path | int, labels: tuple[str, ...] = LABELS) -> Artifact:
    ended = run_import(file, *options, labels=labels)
    assert ended.code == 0, ended.errors
    return read_artifact(file.parent / "models" / "theirs" / "1")


def photos(size: tuple[int, int] = (SIDE, SIDE), n: int = 7) -> list[bytes]:
    generator = np.random.default_rng(5)
    files = []
    for _ in range(n):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8)).resize(size)
        coarse.save(stream := BytesIO(), "PNG")
        files.append(stream.getvalue())
    return files


def served(artifact: Artifact, files: list[bytes]) -> NDArray[np.float32]:
    preprocessor = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS)
    return load_engine(artifact).run(np.stack([preprocessor(file) for file in files]))


def expected(
    made: nn.Module, files: list[bytes], resize: Any = SIDE, crop: Any = SIDE, mode: str = "RGB", **more: Any
) -> NDArray[np.float32]:
    """PyTorch's own logits, behind torchvision's transforms."""
    channels = len(mode.replace("RGB", "rgb").replace("L", "l"))
    steps = [v2.Resize(resize, **more), v2.CenterCrop(crop), v2.ToImage(), v2.ToDtype(torch.float32, True)]
    preset = v2.Compose([*steps, v2.Normalize(MEAN[:channels], STD[:channels])])
    pictures = torch.stack([preset(Image.open(BytesIO(file)).convert(mode)) for file in files])
    with torch.inference_mode():
        logits: NDArray[np.float32] = made(pictures).numpy()
    return logits


def assert_equal(found: NDArray[np.float32], wanted: NDArray[np.float32], bound: float = 1e-4) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=bound * np.abs(wanted).max())


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    """To what pixels change that are rounded once instead of twice."""
    assert np.abs(found - wanted).max() < 0.1 * np.std(wanted - wanted.mean(0))


@pytest.mark.parametrize(
    "name",
    [
        "torchvision mobilenet_v3_small",
        "torchvision vision transformer",
        "torchvision swin transformer",
        "timm convnext_atto",
    ],
)
def test_networks_that_this_project_does_not_know_answer_as_in_pytorch(name: str, tmp_path: Path) -> None:
    """`benchmarks/results/onnx_imports.json` has two dozen, EfficientNet and DenseNet among them."""
    row = measure(name, tmp_path, dynamo=False)
    assert (row["same_class_as_pytorch"], row["pictures"]) == (64, 64)
    assert row["classes_among_answers"] >= 5
    assert row["largest_difference"] < 1e-4


def test_pictures_of_any_size_are_resized_and_cropped_as_torchvision_does(tmp_path: Path) -> None:
    artifact = imported(export(tiny(), tmp_path / "net.onnx"), *NUMBERS, "--resize", 40, "--interpolation", "bicubic")
    files = photos((150, 110))
    bicubic = v2.InterpolationMode.BICUBIC
    assert_close(served(artifact, files), expected(tiny(), files, 40, interpolation=bicubic))
    assert artifact.labels == LABELS
    assert artifact.weights is None
    assert artifact.metadata.architecture == "net"


def planes(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.permute(0, 3, 1, 2)


def first_two(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return scores, scores.exp()[:, :3]


def by_hand(logits: torch.Tensor) -> torch.Tensor:
    exp = logits.exp()
    return exp / exp.sum(1, keepdim=True)


FORMS: dict[str, tuple[Callable[[Path], Path], tuple[str | int, ...]]] = {
    "NHWC": (lambda path: export(Wrapped(tiny(), planes), path, (1, SIDE, SIDE, 3)), ()),
    "NHWC, any size": (
        lambda path: export(
            Wrapped(tiny(), planes), path, (1, SIDE, SIDE, 3), input_names=["x"], dynamic_axes={"x": [0, 1, 2]}
        ),
        ("--size", SIDE),
    ),
    "any batch and size": (
        lambda path: export(tiny(), path, input_names=["image"], dynamic_axes={"image": [0, 2, 3]}),
        ("--size", SIDE),
    ),
    "batches of 4": (lambda path: export(tiny(), path, (4, 3, SIDE, SIDE)), ()),
    "opset 9": (lambda path: export(tiny(), path, opset_version=9), ()),
    "opset 13": (lambda path: export(tiny(), path, opset_version=13), ()),
    "names of ours": (lambda path: export(tiny(), path, input_names=["image"], output_names=["logits"]), ()),
    "softmax": (lambda path: export(Wrapped(tiny(), behind=nn.Softmax(1)), path), ()),
    "log-softmax": (lambda path: export(Wrapped(tiny(), behind=nn.LogSoftmax(1)), path), ()),
    "probabilities by hand": (lambda path: export(Wrapped(tiny(), behind=by_hand), path), ()),
    "two outputs": (lambda path: export(Wrapped(tiny(), behind=first_two), path), ()),
    "four axes": (lambda path: export(Wrapped(tiny(), behind=lambda y: y[:, :, None, None].softmax(1)), path), ()),
    "bytes": (
        lambda path: export(
            Wrapped(tiny(), lambda x: (x / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)),
            path,
            dtype=torch.uint8,
        ),
        (),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_classifier_answers_as_in_pytorch(form: str, tmp_path: Path) -> None:
    make, options = FORMS[form]
    artifact = imported(make(tmp_path / "net.onnx"), *(() if form == "bytes" else NUMBERS), *options)
    files = photos()
    found, wanted = served(artifact, files), expected(tiny(), files)
    if "softmax" in form or "probabilities" in form or form == "four axes":
        assert_equal(softmax(found), softmax(wanted))
        return
    assert_equal(found, wanted)


def test_probabilities_come_out_as_logits(tmp_path: Path) -> None:
    """The last softmax is taken off: the server applies its own."""
    artifact = imported(export(Wrapped(tiny(), behind=nn.Softmax(1)), tmp_path / "net.onnx"), *NUMBERS)
    files = photos()
    assert_equal(served(artifact, files), expected(tiny(), files))


@pytest.mark.parametrize("behind", [nn.LogSoftmax(1), by_hand])
def test_a_classifier_that_is_sure_of_its_answers_is_no_other(behind: Any, tmp_path: Path) -> None:
    """Of classes that it excludes the probability is 0 in fp32, and of many that are unlikely the sum is not small."""
    sure = Wrapped(tiny(classes=300), behind=lambda logits: 400 * (logits - logits.amax(1, keepdim=True)))
    labels = tuple(f"class {number}" for number in range(300))
    artifact = imported(export(Wrapped(sure, behind=behind), tmp_path / "net.onnx"), *NUMBERS, labels=labels)
    files = photos()
    wanted = expected(sure, files)
    assert wanted.min() < -103.3  # whose exponential is 0
    assert_equal(softmax(served(artifact, files)), softmax(wanted))


def test_half_precision_stays_what_it_is(tmp_path: Path) -> None:
    artifact = imported(export(tiny().half(), tmp_path / "net.onnx", dtype=torch.float16), *NUMBERS)
    assert artifact.metadata.precision == "fp16"
    files = photos()
    assert_equal(served(artifact, files), expected(tiny(), files), 1e-2)


def test_weights_beside_the_file_are_merged(tmp_path: Path) -> None:
    file = export(tiny(), tmp_path / "plain.onnx")
    split = tmp_path / "net.onnx"
    onnx.save(onnx.load(file), split, save_as_external_data=True, location="net.bin", size_threshold=0)
    artifact = imported(split, *NUMBERS)
    files = photos()
    assert_equal(served(artifact, files), expected(tiny(), files))
    assert set(dict(artifact.metadata.recipe["sha256"])) == {"net.onnx", "net.bin"}
    (tmp_path / "net.bin").unlink()
    ended = run_import(split, *NUMBERS, "--version", 2)
    assert "keeps its weights in net.bin, which is not beside it" in ended.errors


def test_grey_pictures_and_other_shapes_than_squares(tmp_path: Path) -> None:
    file = export(tiny(channels=1), tmp_path / "net.onnx", (1, 1, SIDE, 2 * SIDE))
    artifact = imported(file, "--mean", "0.5", "--std", "0.25", "--resize", 2 * SIDE)
    files = photos((2 * SIDE, 2 * SIDE))
    assert artifact.input_shape == (SIDE, 2 * SIDE, 1)
    assert_equal(served(artifact, files), expected(tiny(channels=1), files, 2 * SIDE, (SIDE, 2 * SIDE), "L"))


@pytest.mark.parametrize("behind", [None, nn.Sigmoid()])
def test_a_single_number_tells_two_classes_apart(behind: nn.Module | None, tmp_path: Path) -> None:
    file = export(Wrapped(tiny(classes=1), behind=behind), tmp_path / "net.onnx")
    found = served(imported(file, *NUMBERS, labels=("no", "yes")), files := photos())
    assert_equal(found[:, 1:], expected(tiny(classes=1), files))
    assert not found[:, 0].any()


@pytest.mark.parametrize(
    "behind",
    [lambda y: torch.cat([-y, y], 1).softmax(1)[:, 1:], lambda y: y.sigmoid().clamp(0.001, 0.999)],
    ids=["softmax, then a slice", "sigmoid, then a clip"],
)
def test_a_single_probability_is_not_taken_for_a_logit(behind: Any, tmp_path: Path) -> None:
    """As such it would never be below 0, and all pictures of the second class."""
    file = export(Wrapped(tiny(classes=1), behind=behind), tmp_path / "net.onnx")
    ended = run_import(file, *NUMBERS, labels=("no", "yes"))
    assert ended.code == 1
    assert "seems to be a probability already" in ended.errors
    assert "without its last activation" in ended.errors


def test_channels_may_come_blue_first(tmp_path: Path) -> None:
    """Mean and deviation are told in the network's order."""
    reverse = Wrapped(tiny(), lambda x: x.flip(1))
    turned = [word if word.startswith("--") else ",".join(reversed(word.split(","))) for word in NUMBERS]
    artifact = imported(export(reverse, tmp_path / "net.onnx"), *turned, "--channel-order", "bgr")
    files = photos()
    assert_equal(served(artifact, files), expected(tiny(), files))
    assert artifact.metadata.preprocessing.mean == MEAN


def test_an_imported_file_is_served_and_says_how_it_was_proved(tmp_path: Path) -> None:
    ended = run_import(export(tiny(), tmp_path / "net.onnx"), *NUMBERS)
    assert "was for batches of 1, and takes any now" in ended.output
    assert "in batches of 1, 2, 5, 32: 64 of 64 pictures get the same class" in ended.output
    assert "was told, and not seen" in ended.output
    command = [sys.executable, "-m", "service", "check", str(tmp_path / "models")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "theirs" in checked.stdout


def test_the_files_beside_it_tell_how_pictures_are_prepared_and_what_classes_are_called(tmp_path: Path) -> None:
    """As transformers writes them; its own processor is the oracle."""
    processor = ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=list(MEAN), image_std=list(STD), resample=3
    )
    processor.save_pretrained(tmp_path)
    config = {"model_type": "vit", "id2label": dict(enumerate(LABELS))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    ended = resnet_train(
        *("import", export(tiny(), tmp_path / "net.onnx"), "--name", "theirs", "--repository", tmp_path / "models")
    )
    assert ended.code == 0, ended.errors
    artifact = read_artifact(tmp_path / "models" / "theirs" / "1")
    assert artifact.labels == LABELS
    files = photos((150, 110))
    images = [Image.open(BytesIO(file)) for file in files]
    with torch.inference_mode():
        wanted = tiny()(processor(images, return_tensors="pt")["pixel_values"]).numpy()
    assert_close(served(artifact, files), wanted)


def test_what_no_flag_tells_is_that_of_a_release_which_it_is_like(tmp_path: Path) -> None:
    release = ResNet18_Weights.IMAGENET1K_V1
    file = export(tiny(classes=1000), tmp_path / "net.onnx", (1, 3, 224, 224))
    ended = resnet_train(
        *("import", file, "--like", release, "--std", "1,1,1", "--name", "theirs", "--repository", tmp_path / "models")
    )
    assert ended.code == 0, ended.errors
    artifact = read_artifact(tmp_path / "models" / "theirs" / "1")
    spec = artifact.metadata.preprocessing
    assert list(artifact.labels)[:100] == release.meta["categories"][:100]
    assert (spec.resize, spec.height, spec.mean[0], spec.std) == (256, 224, 0.485, (1, 1, 1))


def test_a_picture_whose_class_is_known_and_inputs_of_the_maker_prove_it(tmp_path: Path) -> None:
    file = export(tiny(), tmp_path / "net.onnx")
    (tmp_path / "photo.png").write_bytes(photos(n=1)[0])
    winner = LABELS[expected(tiny(), photos(n=1))[0].argmax()]
    ended = run_import(file, *NUMBERS, "--expect", f"{tmp_path / 'photo.png'}={winner}")
    assert f"as expected, photo.png is {winner}" in ended.output
    inputs = torch.randn(3, 3, SIDE, SIDE)
    with torch.inference_mode():
        np.savez(tmp_path / "reference.npz", inputs=inputs.numpy(), logits=tiny()(inputs).numpy())
    ended = run_import(file, *NUMBERS, "--reference", tmp_path / "reference.npz", "--version", 2)
    assert "3 inputs of reference.npz are answered as by the origin" in ended.output


def changed(file: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)
    return file


def as_sequence(model: onnx.ModelProto) -> None:
    name = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("SequenceConstruct", [name], ["answers"]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_sequence_value_info("answers", onnx.TensorProto.FLOAT, None))


def export_training(layer: nn.Module, path: Path, opset: int = 17) -> Path:
    """Export a network as it trains, with this layer in it."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(LABELS)))
    return export(
        network, path, training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False, opset_version=opset
    )


REFUSED: dict[str, tuple[Callable[[Path], Path], tuple[str | int, ...], str]] = {
    "two that may be meant": (
        lambda path: export(Wrapped(tiny(), behind=lambda y: (y, y + 1)), path, output_names=["a", "b"]),
        NUMBERS,
        "several outputs may tell the classes: a, b; say which by --output",
    ),
    "no such output": (
        lambda path: export(tiny(), path, output_names=["a"]),
        (*NUMBERS, "--output", "scores"),
        "no output 'scores'; it has a [1, 5]",
    ),
    "other labels": (lambda path: export(tiny(classes=7), path), NUMBERS, "7 classes, but there are 5 labels"),
    "nothing of normalisation": (lambda path: export(tiny(), path), (), "--mean, --std"),
    "any size": (
        lambda path: export(tiny(), path, input_names=["x"], dynamic_axes={"x": [2, 3]}),
        NUMBERS,
        "takes pictures of any size: say --size",
    ),
    "larger than is served": (
        lambda path: export(tiny(), path, input_names=["x"], dynamic_axes={"x": [2, 3]}),
        (*NUMBERS, "--size", 100_000),
        "a picture of 100000 x 100000 takes 30,000,000,000 bytes, and 67,108,864 are served at most",
    ),
    "another size": (
        lambda path: export(tiny(), path),
        (*NUMBERS, "--size", 48),
        "takes pictures of 32 x 32, and --size or its configuration says 48",
    ),
    "several labels a picture": (
        lambda path: export(Wrapped(tiny(), behind=nn.Sigmoid()), path),
        NUMBERS,
        "ends in Sigmoid: its 5 classes do not exclude each other",
    ),
    "no pictures": (lambda path: export(nn.Linear(4, 5), path, (1, 4)), NUMBERS, "pictures have four axes"),
    "five channels": (
        lambda path: export(tiny(channels=5), path, (1, 5, SIDE, SIDE)),
        NUMBERS,
        "neither as [n, channels, height, width] nor as [n, height, width, channels]",
    ),
    "a sequence": (lambda path: changed(export(tiny(), path), as_sequence), NUMBERS, "no output is a tensor: answers"),
    "a format of later years": (
        lambda path: changed(export(tiny(), path), lambda model: setattr(model, "ir_version", 99)),
        NUMBERS,
        "Unsupported model IR version: 99, max supported",
    ),
    "batch norm that trains": (
        lambda path: export_training(nn.BatchNorm2d(8), path),
        NUMBERS,
        "net.onnx was exported as it trains, with a BatchNormalization in training mode",
    ),
    "batch norm that trains, as before operator set 14": (
        lambda path: export_training(nn.BatchNorm2d(8), path, opset=11),
        NUMBERS,
        "with a BatchNormalization in training mode",
    ),
    "dropout that trains": (
        lambda path: export_training(nn.Dropout(0.1), path),
        NUMBERS,
        "with a Dropout in training mode: its answers are not those of the trained network; export network.eval()",
    ),
    "no scores": (lambda path: export(tiny().body[:2], path), NUMBERS, "no output has one number for each class"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_served_is_told_by_what_it_is(kind: str, tmp_path: Path) -> None:
    make, options, message = REFUSED[kind]
    ended = run_import(make(tmp_path / "net.onnx"), *options)
    assert ended.code == 1
    assert message in ended.errors
    assert not list(tmp_path.glob("models/*/*"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no ONNX file"),
        (b"\x80\x02 a pickle", "is no ONNX file, or a damaged one"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "is HTML: fetch or export it again"),
        (b"\0\0\0\0ORTM", "is in ONNX Runtime's own format"),
    ],
)
def test_what_is_no_onnx_file_is_told(data: bytes, message: str, tmp_path: Path) -> None:
    (file := tmp_path / "net.onnx").write_bytes(data)
    assert message in run_import(file, *NUMBERS).errors
    assert "cannot be read: No such file" in run_import(tmp_path / "none.onnx", *NUMBERS).errors


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    file = export(tiny(), tmp_path / "net.onnx")
    file.write_bytes(file.read_bytes()[:-100])
    assert "is no ONNX file, or a damaged one" in run_import(file, *NUMBERS).errors
