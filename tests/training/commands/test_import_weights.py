"""`resnet-train import` by its command line: the model in the repository answers as its source does."""

import argparse
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torchvision.models import ResNet50_Weights
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

from models.artifact.artifact import Artifact, read_artifact
from models.engines.loader import load_engine
from models.images.decoder import Preprocessor
from tests.training.command import Ended, resnet_train
from tests.training.weights.test_conversion import as_saved_by_old_pytorch, net

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201)
CIFAR = [
    *("--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))),
    *("--labels", "plane,car,bird,cat,deer,dog,frog,horse,ship,truck"),
]


def run_import(source: Path, repository: Path, *options: str, arch: str = "resnet20") -> Ended:
    command = ("import", source, "--arch", arch, "--name", "foreign", "--version", 3)
    return resnet_train(*command, "--repository", repository, *options)


def error_of(result: Ended) -> str:
    assert result.code == 1
    return result.errors


def logits(artifact: Artifact, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return load_engine(artifact).run(pixels)


def source_logits(network: nn.Module, pixels: NDArray[np.uint8], mean=MEAN, std=STD) -> NDArray[np.float32]:
    """Normalised by torchvision."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        result: NDArray[np.float32] = network(torchvision.transforms.functional.normalize(images, mean, std)).numpy()
    return result


def pictures(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (3, *shape), np.uint8)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the layout of akamaster/pytorch_resnet_cifar10, whose shortcuts are of option A."""
    torch.save(as_saved_by_old_pytorch(net("A, both")), path := tmp_path_factory.mktemp("cifar") / "resnet20.th")
    return path


@pytest.fixture(scope="module")
def imported(cifar: Path) -> Path:
    result = run_import(cifar, cifar.parent / "models", *CIFAR, "--zero-channels", "both")
    assert result.code == 0, result.errors
    assert "resnet20 shortcut A with resnet20.th" in result.output
    return cifar.parent / "models" / "foreign" / "3"


def test_an_imported_cifar_network_answers_as_its_source(imported: Path):
    artifact = read_artifact(imported)
    pixels = pictures((32, 32, 3))
    expected = source_logits(net("A, both"), pixels)
    np.testing.assert_allclose(logits(artifact, pixels), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    metadata = artifact.metadata
    assert (metadata.architecture, metadata.arguments) == ("resnet20", {"shortcut": "A"})
    assert metadata.labels[9] == "truck"
    assert (metadata.preprocessing.resize, metadata.preprocessing.height) == (32, 32)
    assert metadata.recipe["imported_from"] == "resnet20.th"


def test_an_imported_network_is_served_at_once(imported: Path):
    command = [sys.executable, "-m", "service", "check", str(imported.parent.parent)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "foreign" in checked.stdout


@pytest.mark.slow
def test_torchvisions_weights_answer_as_in_torchvision(tmp_path: Path):
    torch.manual_seed(0)
    source = torchvision.models.resnet18().eval()
    torch.save(source.state_dict(), path := tmp_path / "net.pth")
    result = run_import(path, tmp_path, "--like", "ResNet50_Weights.IMAGENET1K_V2", arch="resnet18")
    assert result.code == 0, result.errors
    artifact = read_artifact(tmp_path / "foreign" / "3")
    release = ResNet50_Weights.IMAGENET1K_V2
    assert list(artifact.labels) == release.meta["categories"]
    preset = release.transforms()
    pixels = pictures((224, 224, 3))
    expected = source_logits(source, pixels, preset.mean, preset.std)
    np.testing.assert_allclose(logits(artifact, pixels), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert_preprocessed_as(artifact, preset)


def assert_preprocessed_as(artifact: Artifact, preset: nn.Module) -> None:
    """Within one grey level of torchvision's own preprocessing, which ends in normalised floats."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 53, 3), np.uint8)
    photo = Image.fromarray(noise).resize((530, 400))
    photo.save(stream := BytesIO(), "PNG")
    spec = artifact.metadata.preprocessing
    ours = Preprocessor(spec, 10**6)(stream.getvalue())
    theirs = preset(photo).permute(1, 2, 0).numpy() * np.array(spec.std) + np.array(spec.mean)
    assert np.abs(ours - theirs * 255).max() < 1.01


def test_labels_come_from_a_file_and_flags_go_before_the_publisher(cifar: Path, tmp_path: Path):
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class, {index}\n" for index in range(10)))
    options = ["--like", "ResNet18_Weights.DEFAULT", "--labels", f"@{labels}", "--std", "0.5,0.25,0.125"]
    sizes = ["--size", "40", "--resize", "48", "--zero-channels", "end"]
    result = run_import(cifar, tmp_path, *options, *sizes)
    assert result.code == 0, result.errors
    metadata = read_artifact(tmp_path / "foreign" / "3").metadata
    spec = metadata.preprocessing
    assert metadata.labels[3] == "class, 3"
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.5, 0.25, 0.125))
    assert (spec.shape, spec.resize) == ((40, 40, 3), 48)
    assert not metadata.metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing tells --labels, --mean, --std"),
        (CIFAR[:4], "nothing tells --labels:"),
        ([*CIFAR[:4], "--labels", "cat,dog"], "the last layer has 10 classes, but there are 2 labels"),
        ([*CIFAR[2:], "--mean", "123.675,116.28,103.53"], "--mean 0.485,0.456,0.406"),
        ([*CIFAR[2:], "--mean", "0.5,0.5"], "needs 3 values of mean and of std"),
        ([*CIFAR[2:], "--mean", "0.5;0.5;0.5"], "'0.5;0.5;0.5' is not numbers"),
        ([*CIFAR[:2], *CIFAR[4:], "--std", "0.5,0,0.5"], "greater than 0"),
        ([*CIFAR, "--resize", "20"], "resize 20 is smaller than the crop 32 x 32"),
        ([*CIFAR[:4], "--labels", "@missing.txt"], "cannot be read from missing.txt"),
        (["--like", "ResNet19_Weights.DEFAULT"], "no weights 'ResNet19_Weights.DEFAULT'"),
    ],
)
def test_what_the_flags_lack_is_told(options: list[str], message: str, cifar: Path, tmp_path: Path):
    assert message in error_of(run_import(cifar, tmp_path, *options, "--zero-channels", "both"))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_imported_is_told(cifar: Path, tmp_path: Path):
    assert "do not fit resnet32" in error_of(run_import(cifar, tmp_path, *CIFAR, arch="resnet32"))
    assert "cannot be read" in error_of(run_import(tmp_path / "none.pth", tmp_path, *CIFAR))
    unknown = run_import(cifar, tmp_path, arch="resnet21")
    assert unknown.code == 2
    assert "unknown network 'resnet21'" in unknown.errors


def test_networks_for_grey_pictures_are_imported_with_one_mean(tmp_path: Path):
    from models.networks import registry

    torch.save(registry.build("mnist-residual").state_dict(), path := tmp_path / "net.pth")
    digits = ("--labels", "0,1,2,3,4,5,6,7,8,9")
    refused = run_import(path, tmp_path, *digits, "--mean", "0.1,0.2,0.3", "--std", "1,1,1", arch="mnist-residual")
    assert "mode L needs 1 values of mean and of std" in error_of(refused)
    result = run_import(path, tmp_path, *digits, "--mean", "0.13", "--std", "0.31", arch="mnist-residual")
    assert result.code == 0, result.errors
    assert read_artifact(tmp_path / "foreign" / "3").metadata.preprocessing.shape == (28, 28, 1)


def test_a_taken_version_is_refused_before_anything_is_read(imported: Path):
    result = run_import(imported / "there is no such file", imported.parent.parent, *CIFAR)
    assert "is never overwritten; choose a higher version" in error_of(result)


def test_what_a_training_script_saves_is_taken_and_the_report_tells_all(tmp_path: Path):
    """One output, averaged weights, arguments and a score beside them, a name with a date, no --arch, and proof."""
    raw, averaged = net("B", classes=1), net("B", classes=1)
    averaged.linear.weight.data += 0.1
    content = {
        "state_dict": raw.state_dict(),
        "state_dict_ema": averaged.state_dict(),
        "args": argparse.Namespace(model="resnet20", lr=0.1),
        "best": np.float64(0.9),
    }
    torch.save(content, path := tmp_path / "resnet20-20240115.pth")
    inputs = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.save({"inputs": inputs, "logits": averaged(inputs)}, reference := tmp_path / "reference.pt")
    words = ("import", path, "--name", "foreign", "--repository", tmp_path, *CIFAR[:4], "--labels", "no,no")
    result = resnet_train(*words, "--reference", reference)
    assert result.code == 0, result.errors
    for told in (
        "resnet20 shortcut B with resnet20-20240115.pth",
        "averaged weights, of state_dict_ema, not the raw ones of state_dict",
        "its one output z became two logits, 0 and z",
        "inert, nothing of them was loaded or run: argparse.Namespace, numpy",
        "labels that repeat have their index behind them: no (0), no (1)",
        "the graph, compared with this project's resnet20 in PyTorch on 8 pictures of noise: logits differ by",
        "the origin: 3 inputs of reference.pt are answered as by the origin",
    ):
        assert told in result.output
    pixels = pictures((32, 32, 3))
    answers = logits(read_artifact(tmp_path / "foreign" / "1"), pixels)
    expected = source_logits(averaged, pixels)
    np.testing.assert_allclose(answers, np.hstack([0 * expected, expected]), rtol=0, atol=1e-4)


def test_without_proof_it_says_that_the_origin_was_not_seen(cifar: Path, tmp_path: Path):
    result = run_import(cifar, tmp_path, *CIFAR, "--zero-channels", "both", "--interpolation", "bicubic")
    assert "the origin: not seen: a network with weights of the same names" in result.output
    assert read_artifact(tmp_path / "foreign" / "3").metadata.preprocessing.interpolation == "bicubic"


def test_weights_that_were_rounded_since_their_origin_answered_are_told(tmp_path: Path):
    origin, inputs = net("B").eval(), torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.save({"inputs": inputs, "logits": origin(inputs)}, reference := tmp_path / "reference.pt")
    torch.save(origin.bfloat16().state_dict(), path := tmp_path / "net.pth")
    result = run_import(path, tmp_path / "models", *CIFAR, "--reference", str(reference))
    assert "with weights of fp32 that were rounded since, as those in a file of bf16" in error_of(result)


def test_another_function_is_refused_by_reference_config_or_name(tmp_path: Path):
    """A network with another activation has weights of the same names and shapes."""
    torch.save(net("B").state_dict(), path := tmp_path / "net.pth")
    models, inputs = tmp_path / "models", torch.randn(3, 3, 32, 32)
    torch.save({"inputs": inputs, "logits": torch.randn(3, 10)}, reference := tmp_path / "reference.pt")
    result = run_import(path, models, *CIFAR, "--reference", str(reference))
    assert "this is not the function of the origin" in error_of(result)
    (tmp_path / "config.json").write_text('{"architecture": "resnetblur18", "pretrained_cfg": {}}')
    told = "config.json beside the weights says that they are of another network: resnetblur18 blurs"
    assert told in error_of(run_import(path, models, *CIFAR))
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {}}')
    assert "they are of resnet18, --arch says resnet20" in error_of(run_import(path, models, *CIFAR))
    (tmp_path / "config.json").unlink()
    torch.save({"state_dict": net("B").state_dict(), "arch": "resnet20-silu"}, path)
    assert "resnet20-silu has another activation; if that is not so, prove it" in error_of(
        run_import(path, models, *CIFAR)
    )
    torch.save({"model": nn.Sequential(net("B"), nn.SiLU())}, path)
    assert "has layers of the class torch.nn.modules.activation.SiLU" in error_of(run_import(path, models, *CIFAR))
    assert not models.exists()


def test_one_output_needs_two_labels_and_a_fresh_head_proves_nothing(tmp_path: Path):
    torch.save(net("B", classes=1).state_dict(), path := tmp_path / "net.pth")
    told = error_of(run_import(path, tmp_path, *CIFAR[:4], "--labels", "cat"))
    assert "one output, which tells two classes apart, and there are 1 labels: give two" in told
    body = {key: value for key, value in net("B").state_dict().items() if "linear" not in key}
    torch.save(body, path)
    unproved = run_import(path, tmp_path, *CIFAR, "--expect", "cat.png=cat")
    assert (unproved.code, "the last layer is fresh" in unproved.errors) == (2, True)
    assert "2 labels at least" in error_of(run_import(path, tmp_path, *CIFAR[:4], "--labels", "cat"))


@pytest.mark.slow
def test_a_folder_of_transformers_is_served_at_the_first_try(tmp_path: Path):
    """No flag but where to write it; the answer to a picture is that of transformers' own processor and network."""
    torch.manual_seed(0)
    names = dict(enumerate(("ant", "bee", "cat", "dog", "elk")))
    sizes = {"depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"}
    source = ResNetForImageClassification(ResNetConfig(**sizes, id2label=names)).eval()
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 64}, crop_pct=0.875, resample=3)
    for part in (source, processor):
        part.save_pretrained(tmp_path / "source")
    result = resnet_train("import", tmp_path / "source", "--name", "foreign", "--repository", tmp_path)
    assert result.code == 0, result.errors
    artifact = read_artifact(tmp_path / "foreign" / "1")
    assert artifact.labels == tuple(names.values())
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    (photo := Image.fromarray(noise).resize((120, 90))).save(stream := BytesIO(), "PNG")
    with torch.no_grad():
        expected = source(**processor(photo, return_tensors="pt")).logits.numpy()
    answer = logits(artifact, Preprocessor(artifact.metadata.preprocessing, 10**6)(stream.getvalue())[None])
    np.testing.assert_allclose(answer, expected, rtol=0, atol=0.01 * np.abs(expected).max())
