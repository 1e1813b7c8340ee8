"""`resnet-train quantize` by its command line, on a network that a few steps on digits have taught most of them."""

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from models.artifact.artifact import Artifact, read_artifact, write_artifact
from models.engines import golden
from models.engines.backend import Backend
from models.engines.loader import load_engine
from tests.service.pictures import encode
from tests.training.command import Ended, resnet_train
from tests.training.folders import pack
from training.data import sources
from training.release.int8_graph import FIRST
from training.release.release import assemble


@pytest.fixture(scope="module")
def released(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    result = resnet_train("export", digits_checkpoint, "--name", "digits", "--repository", repository)
    assert result.code == 0, result.errors
    return repository / "digits" / "1"


def run_quantize(artifact: Path, *options: str) -> Ended:
    return resnet_train("quantize", artifact, "--images", 100, *options)


@pytest.fixture(scope="module")
def quantized(released: Path) -> Artifact:
    result = run_quantize(released, "--force")  # a network as small as this need not be faster
    assert result.code == 0, result.errors
    return read_artifact(released.parent.parent / "digits-int8" / "1")


def accuracy(artifact: Artifact, digits: str) -> float:
    """On the test split's own pixels, which preprocessing leaves as they are."""
    images = sources.load(digits, Path(), "test")
    logits = load_engine(artifact).run(images.images.permute(0, 2, 3, 1).contiguous().numpy())
    return float((logits.argmax(1) == images.labels.numpy()).mean())


def test_the_model_says_what_it_is_and_what_it_cost(quantized: Artifact, released: Path, digits: str):
    source = read_artifact(released)
    metadata, metrics = quantized.metadata, quantized.metadata.metrics
    assert (metadata.precision, metadata.tolerance) == ("int8", {"int8": 0.05})
    for name in ("architecture", "arguments", "labels", "preprocessing"):
        assert getattr(metadata, name) == getattr(source.metadata, name)
    assert metadata.recipe["quantization"] == {
        "model": "digits/1",
        "sha256": source.sha256,
        "graph_sha256": hashlib.sha256(onnx.load_from_string(source.model).graph.SerializeToString()).hexdigest(),
        "calibration": "min-max",
        "calibration_images": 100,
        "weight_bits": 7,
        "in_fp32": metadata.recipe["quantization"]["in_fp32"],
    }
    assert (metrics["split"], metrics["images"]) == ("test", 1000)
    assert metrics["accuracy"] == pytest.approx(accuracy(quantized, digits))
    assert metrics["fp32_accuracy"] == pytest.approx(accuracy(source, digits))
    assert metrics["accuracy"] > metrics["fp32_accuracy"] - 0.02 > 0.7
    images = sources.load(digits, Path(), "test").images.permute(0, 2, 3, 1).contiguous().numpy()
    named = load_engine(quantized).run(images).argmax(1)
    assert metadata.reference.class_counts == tuple(np.bincount(named, minlength=10))
    assert 1 >= metrics["agreement_with_fp32"] > 0.95
    for size in (1, 8):
        assert metrics[f"images_per_second_batch_{size}"] > 0
        assert metrics[f"fp32_images_per_second_batch_{size}"] > 0


def test_the_model_is_smaller_and_fit_to_be_served(quantized: Artifact, released: Path):
    assert len(quantized.model) < 0.5 * len(read_artifact(released).model)
    assert quantized.weights is None
    golden.verify(quantized, load_engine(quantized))


def test_a_version_that_holds_both_is_the_next_of_the_same_model(released: Path, quantized: Artifact, tmp_path: Path):
    shutil.copytree(released, tmp_path / "digits" / "7")
    result = run_quantize(tmp_path / "digits" / "7", "--beside", "--force")
    assert result.code == 0, result.errors
    source, both = read_artifact(released), read_artifact(tmp_path / "digits" / "8")
    assert (both.model, both.weights) == (source.model, source.weights)
    assert both.int8
    assert both.int8.metadata.metrics["accuracy"] == quantized.metadata.metrics["accuracy"]
    assert both.int8.metadata.lost_points() == pytest.approx(
        100 * (both.int8.metadata.metrics["fp32_accuracy"] - both.int8.metadata.metrics["accuracy"])
    )
    golden.verify(both, load_engine(both, Backend(precision="int8")))
    golden.verify(both, load_engine(both))
    assert not (tmp_path / "digits-int8").exists()


@pytest.mark.parametrize("losses", [[0.3, 0.002], [0.3, 0.1, 0.2]], ids=["little enough", "least"])
def test_a_layer_stays_in_fp32_if_more_would_be_lost_without(
    losses: list[float], released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With no layer in fp32, the first, or both ends these losses of accuracy are found."""
    shutil.copytree(released, tmp_path / "digits" / "1")
    found = iter(losses)
    monkeypatch.setattr("training.commands.quantize._lost", lambda _: (next(found), 0.005))
    assert run_quantize(tmp_path / "digits" / "1", "--force").code == 0
    chosen = read_artifact(tmp_path / "digits-int8" / "1")
    assert chosen.metadata.recipe["quantization"]["in_fp32"] == [FIRST]


def test_convolutions_compute_in_8_bits_and_normalisation_does_not(quantized: Artifact):
    model = onnx.load_from_string(quantized.model)
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 20)]
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 6
    in_8_bits = convolutions[FIRST in quantized.metadata.recipe["quantization"]["in_fp32"] :]
    for node in in_8_bits:
        pixels, weight = (makers[name] for name in node.input[:2])
        assert (pixels.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert values[pixels.input[2]].dtype == np.uint8
        assert values[weight.input[0]].dtype == np.int8
        assert values[weight.input[1]].shape == values[weight.input[0]].shape[:1]  # a scale for each channel
    first = makers[convolutions[0].input[0]]
    if convolutions[0] in in_8_bits:
        quantized_pixels = makers[first.input[0]]
        assert quantized_pixels.op_type == "QuantizeLinear"
        first = makers[quantized_pixels.input[0]]
    assert first.op_type == "Mul"  # the normalisation's last step
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Cast"] == kinds["Sub"] == kinds["Mul"] == 1
    assert makers["logits"].op_type == "Gemm"  # 256 levels would make logits equal


def black_digits(digits: str, folder: Path) -> Path:
    """To calibrate on black pictures is to take every other for as black."""
    with np.load(digits) as arrays:
        data = dict(arrays)
    data["x_train"] = np.zeros_like(data["x_train"])
    np.savez(path := folder / "black.npz", **data)
    return path


def test_a_model_that_has_become_worse_is_refused(released: Path, digits: str, tmp_path: Path):
    result = run_quantize(
        released, "--data", str(black_digits(digits, tmp_path)), "--repository", str(tmp_path / "models")
    )
    assert result.code == 1
    assert "it loses more than 0.5 points of accuracy" in result.errors
    assert "--force" in result.errors
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("quantized")
def test_an_8_bit_model_is_not_quantised_again(released: Path):
    result = run_quantize(released.parent.parent / "digits-int8" / "1")
    assert result.code == 1
    assert "is in int8" in result.errors


def test_a_model_that_does_not_know_its_data_has_to_be_told(released: Path, tmp_path: Path):
    source = read_artifact(released)
    recipe = {name: value for name, value in source.metadata.recipe.items() if name != "data"}
    draft = assemble("digits", 1, source.model, dataclasses.replace(source.metadata, metrics={}, recipe=recipe))
    directory = write_artifact(tmp_path, "digits", 1, draft.model, None)
    result = run_quantize(directory)
    assert result.code == 1
    assert "give with --data a data set of its classes, or a folder of any pictures" in result.errors


def test_it_is_calibrated_on_what_it_was_trained_on_whatever_it_was_measured_on(
    released: Path, digits: str, tmp_path: Path
):
    source = read_artifact(released)
    metrics = source.metadata.metrics | {"data": str(tmp_path / "elsewhere")}
    draft = assemble("digits", 1, source.model, dataclasses.replace(source.metadata, metrics=metrics))
    result = run_quantize(write_artifact(tmp_path, "digits", 1, draft.model, None), "--force")
    assert result.code == 0, result.errors
    assert read_artifact(tmp_path / "digits-int8" / "1").metadata.metrics["data"] == digits


def pictures(digits: str, folder: Path, count: int) -> Path:
    """So many digits as files without labels, and files that are no pictures."""
    images = sources.load(digits, Path(), "test").take(torch.arange(count))
    files = {f"{index}.png": encode(image[0].numpy()) for index, image in enumerate(images.images)}
    broken = {f"broken{index}.png": b"\x89PNG\r\n\x1a\n" for index in range(count // 8)}
    return pack(folder, "folder", files | broken | {"notes.txt": b"mine"})


def test_any_pictures_do_and_agreement_with_fp32_tells_what_it_cost(released: Path, digits: str, tmp_path: Path):
    folder = pictures(digits, tmp_path, 200)
    result = run_quantize(released, "--data", str(folder), "--repository", str(tmp_path / "models"), "--force")
    assert result.code == 0, result.errors
    metadata = read_artifact(tmp_path / "models" / "digits-int8" / "1").metadata
    metrics = metadata.metrics
    assert f"of {metrics['images']} images as the model in fp32 does, which are few: one is" in result.output
    assert metrics["agreement_with_fp32"] > 0.8
    assert "accuracy" not in metrics
    assert metadata.reference.images == metrics["images"]


def test_files_that_are_no_pictures_do_not_count_as_calibrated_on(released: Path, digits: str, tmp_path: Path):
    folder = pictures(digits, tmp_path, 80)
    words = ["--data", str(folder), "--repository", str(tmp_path / "models"), "--images", "1000", "--force"]
    result = run_quantize(released, *words)
    assert result.code == 0, result.errors
    metadata = read_artifact(tmp_path / "models" / "digits-int8" / "1").metadata
    calibrated = metadata.recipe["quantization"]["calibration_images"]
    assert calibrated + metadata.metrics["images"] == 80
    assert f"calibrated on {calibrated} images" in result.output


def test_a_split_without_a_test_part_is_judged_by_agreement(released: Path, tmp_path: Path):
    files = {
        f"{label}/{index}.png": encode(np.full((28, 28), 20 * label + index, np.uint8))
        for label in range(10)
        for index in range(8)
    }
    folder = pack(tmp_path, "folder", files)
    result = run_quantize(released, "--data", str(folder), "--repository", str(tmp_path / "models"), "--force")
    assert result.code == 0, result.errors
    assert "accuracy" not in result.output


@pytest.mark.parametrize(("count", "told"), [(0, "0 images, which are too few"), (7, "7 images, which are too few")])
def test_too_few_pictures_are_told_before_the_work(released: Path, digits: str, tmp_path: Path, count: int, told: str):
    folder = pictures(digits, tmp_path, count)
    result = run_quantize(released, "--data", str(folder), "--repository", str(tmp_path / "models"))
    assert result.code == 1
    assert told in result.errors
    assert "calibrating" not in result.errors


@pytest.mark.usefixtures("quantized")
def test_a_version_that_is_there_is_told_before_the_work(released: Path):
    result = run_quantize(released, "--force")
    assert result.code == 1
    assert "is never overwritten; choose a higher version with --version" in result.errors
    assert "calibrating" not in result.errors


def test_percentile_calibration_is_told_in_the_recipe(released: Path, tmp_path: Path):
    result = run_quantize(released, "--calibration", "percentile", "--repository", str(tmp_path), "--force")
    assert result.code == 0, result.errors
    assert "calibrating on 100 images" in result.errors
    made = read_artifact(tmp_path / "digits-int8" / "1")
    assert made.metadata.recipe["quantization"]["calibration"] == "percentile"


_ENDED_AT_WORK = """
import signal, sys
from training.cli import main
from training.release import int8_graph

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs behind it
signal.signal(signal.SIGTERM, signal.SIG_DFL)
int8_graph.quant_pre_process = lambda *_: signal.raise_signal(int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(released: Path, tmp_path: Path, number: signal.Signals, code: int):
    command = [sys.executable, "-c", _ENDED_AT_WORK, str(int(number)), "quantize", released, "--version", "9"]
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (code, f"error: stopped by {number.name}")
    assert list(tmp_path.iterdir()) == []
