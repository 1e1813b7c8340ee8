"""A network is held to what its origin answered: by the same network, and by others with weights of the same names."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import nn

from models.artifact.artifact import Artifact, read_artifact
from models.engines.engine import Engine
from models.engines.loader import load_engine
from models.networks.registry import build_with_weights
from tests.networks import MEAN, STD, random_pictures, release_network
from training.errors import UsageError, WeightsError
from training.weights.conversion import adopt
from training.weights.origin import Reference, check_expected

LABELS = tuple(f"class {index}" for index in range(4))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return read_artifact(release_network(tmp_path_factory.mktemp("models"), "resnet20", 4))


@pytest.fixture(scope="module")
def engine(artifact: Artifact) -> Engine:
    return load_engine(artifact)


@pytest.fixture(scope="module")
def network(artifact: Artifact) -> nn.Module:
    assert artifact.weights is not None
    return build_with_weights("resnet20", safetensors.torch.load(artifact.weights), classes=4).eval()


def inputs(pixels: np.ndarray) -> torch.Tensor:
    """Normalised as the origin's own loader does."""
    return ((torch.from_numpy(pixels) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize("as_pixels", [False, True])
def test_an_origin_that_answers_the_same_proves_it(
    kind: str, as_pixels: bool, artifact: Artifact, engine: Engine, network: nn.Module, tmp_path: Path
):
    pixels = random_pictures(artifact, 5)
    with torch.inference_mode():
        given = {"inputs": torch.from_numpy(pixels) if as_pixels else inputs(pixels).contiguous()}
        given["logits"] = network(inputs(pixels))
    path = tmp_path / f"reference.{kind}"
    if kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in given.items()})
    else:
        (torch.save if kind == "pt" else safetensors.torch.save_file)(given, path)
    told = Reference.read(path).compare(network, engine, artifact.input_shape, one_output=False)
    assert told.startswith(f"5 {'pixels' if as_pixels else 'inputs'} of reference.{kind} are answered as by the origin")


@pytest.mark.parametrize("changes", [{}, {"act_layer": "silu"}])
def test_timms_networks_with_weights_of_our_names_and_another_function_are_found(
    changes: dict[str, str], engine: Engine
):
    """The same names and shapes as ResNet-18: nothing but its answers tells them apart."""
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18" if changes else "resnetblur18", num_classes=4, **changes).eval()
    ours = adopt(theirs.state_dict(), "resnet18").network
    pictures = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        reference = Reference("origin.pt", pictures, theirs(pictures))
    with pytest.raises(
        WeightsError, match=r"not the function of the origin: .*% of the largest, where 0\.1% is allowed"
    ):
        reference.compare(ours, engine, (64, 64, 3), one_output=False)


def test_another_normalisation_is_found_by_pixels(artifact: Artifact, engine: Engine, network: nn.Module):
    pixels = torch.from_numpy(random_pictures(artifact, 4))
    with torch.inference_mode():
        logits = network(pixels.permute(0, 3, 1, 2) / 255)  # without mean and deviation
    with pytest.raises(WeightsError, match="not the function of the origin"):
        Reference("r.pt", pixels, logits).compare(network, engine, artifact.input_shape, one_output=False)


def test_one_output_is_compared_with_0_and_itself(artifact: Artifact, engine: Engine, network: nn.Module):
    two = nn.Sequential(network, nn.Linear(4, 2))
    nn.init.zeros_(two[1].weight[:1])
    nn.init.zeros_(two[1].bias[:1])
    pictures = inputs(random_pictures(artifact, 3))
    with torch.inference_mode():
        reference = Reference("r.pt", pictures, two(pictures)[:, 1:])
    assert "3 inputs of r.pt" in reference.compare(two, engine, artifact.input_shape, one_output=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inputs": torch.ones(1, 3, 8, 8)}, "r.pt holds inputs; needed is"),
        ({"inputs": torch.ones(3, 8, 8), "logits": torch.ones(1, 4)}, r"has inputs \[3, 8, 8\] and logits \[1, 4\]"),
        ({"inputs": torch.ones(2, 3, 8, 8), "logits": torch.ones(1, 4)}, r"has inputs \[2, 3, 8, 8\]"),
        ({"logits": torch.ones(1, 4)}, "r.pt holds logits without inputs: save both"),
    ],
)
def test_a_file_that_is_no_reference_is_told(content: object, message: str, tmp_path: Path):
    torch.save(content, tmp_path / "r.pt")
    with pytest.raises(WeightsError, match=message):
        Reference.read(tmp_path / "r.pt")


@pytest.mark.parametrize(
    ("shape", "dtype", "logits", "message"),
    [
        ((2, 1, 32, 32), torch.float32, 4, r"does not take inputs \[2, 1, 32, 32\]"),
        ((2, 3, 32, 32), torch.float32, 5, "has 5 logits for each input, the network 4"),
        ((2, 30, 30, 3), torch.uint8, 4, r"has pixels \[2, 30, 30, 3\]"),
    ],
)
def test_a_reference_of_another_shape_is_told(shape, dtype, logits, message, engine: Engine, network: nn.Module):
    reference = Reference("r.pt", torch.zeros(shape, dtype=dtype), torch.zeros(2, logits))
    with pytest.raises(WeightsError, match=message):
        reference.compare(network, engine, (32, 32, 3), one_output=False)


def test_pictures_prove_the_origin_by_their_classes(artifact: Artifact, engine: Engine, tmp_path: Path):
    (pixels,) = random_pictures(artifact, 1)
    Image.fromarray(pixels).save(path := tmp_path / "a=b.png")
    index = int(engine.run(pixels[None]).argmax())
    preprocessing = artifact.metadata.preprocessing
    for right in (LABELS[index], str(index)):
        told = check_expected([f"{path}={right}"], LABELS, preprocessing, engine)
        assert told is not None
        assert f"a=b.png is class {index} (" in told
    with pytest.raises(WeightsError, match=f"is taken for 'class {index}' .*, expected is 'class {(index + 1) % 4}'"):
        check_expected([f"{path}=class {(index + 1) % 4}"], LABELS, preprocessing, engine)
    with pytest.raises(UsageError, match="no label 'dog'"):
        check_expected([f"{path}=dog"], LABELS, preprocessing, engine)
    with pytest.raises(UsageError, match="needed is PICTURE=LABEL"):
        check_expected(["picture.png"], LABELS, preprocessing, engine)
    with pytest.raises(WeightsError, match=r"none\.png cannot be read: No such file"):
        check_expected([f"{tmp_path / 'none.png'}=1"], LABELS, preprocessing, engine)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(WeightsError, match="no picture that the server reads"):
        check_expected([f"{tmp_path / 'text.png'}=1"], LABELS, preprocessing, engine)
    assert check_expected([], LABELS, preprocessing, engine) is None
