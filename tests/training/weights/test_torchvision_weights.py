"""torchvision's releases, without a network: what is fetched comes from files."""

import hashlib
from pathlib import Path

import pytest
import torch
from torchvision.models import ResNet18_Weights, ResNet50_Weights, ResNet152_Weights, Weights, WeightsEnum

from training.errors import WeightsError
from training.weights import torchvision_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's own cache, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("ResNet50_Weights.IMAGENET1K_V1", ResNet50_Weights.IMAGENET1K_V1),
        ("ResNet50_Weights.IMAGENET1K_V2", ResNet50_Weights.IMAGENET1K_V2),
        ("ResNet152_Weights.DEFAULT", ResNet152_Weights.IMAGENET1K_V2),
        ("ResNet18_Weights.DEFAULT", ResNet18_Weights.IMAGENET1K_V1),
    ],
)
def test_releases_are_known_by_name(name: str, release: WeightsEnum):
    assert torchvision_weights.by_name(name) is release


@pytest.mark.parametrize("name", ["ResNet18_Weights.IMAGENET1K_V2", "ResNeXt50_32X4D_Weights.DEFAULT", "_Weights."])
def test_an_unknown_name_is_answered_with_those_there_are(name: str):
    with pytest.raises(WeightsError, match=r"ResNet18_Weights\.IMAGENET1K_V1, .*ResNet152_Weights\.IMAGENET1K_V2$"):
        torchvision_weights.find(name)


def test_releases_are_known_by_digest():
    assert torchvision_weights.by_sha256("11ad3fa6" + "0" * 56) is ResNet50_Weights.IMAGENET1K_V2
    assert torchvision_weights.by_sha256("0" * 64) is None


def test_a_path_is_no_name(tmp_path: Path):
    assert torchvision_weights.find(str(tmp_path / "net.pth")) is None
    (path := tmp_path / "ResNet18_Weights.DEFAULT").touch()
    assert torchvision_weights.find(str(path)) is None


@pytest.mark.parametrize(
    ("release", "resize"), [(ResNet50_Weights.IMAGENET1K_V1, 256), (ResNet50_Weights.IMAGENET1K_V2, 232)]
)
def test_the_spec_is_the_one_on_torchvisions_page(release: WeightsEnum, resize: int):
    spec = torchvision_weights.model_spec(release)
    assert (spec.resize, spec.size) == (resize, 224)
    assert (spec.mean, spec.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert spec.labels is not None
    assert len(set(spec.labels)) == 1000
    assert (spec.labels[0], spec.labels[207], spec.labels[999]) == (
        "tench",
        "golden retriever",
        "toilet tissue",
    )


def test_figures_say_that_they_are_the_publishers():
    assert torchvision_weights.metrics(ResNet50_Weights.IMAGENET1K_V2) == {
        "published_accuracy": pytest.approx(0.80858),
        "published_data": "ImageNet-1K validation",
        "publisher": "torchvision",
    }


def release_of(file: Path, digest: str) -> WeightsEnum:
    """A release whose file is on this machine."""
    source = file.rename(file.with_name(f"tiny-{digest[:8]}.pth"))

    class TinyWeights(WeightsEnum):
        V1 = Weights(url=source.as_uri(), transforms=lambda: None, meta={})

    return TinyWeights.V1


def test_a_release_is_fetched_once(cache: Path, tmp_path: Path):
    torch.save({"weight": torch.ones(3)}, file := tmp_path / "tiny.pth")
    release = release_of(file, hashlib.sha256(file.read_bytes()).hexdigest())
    path = torchvision_weights.download(release)
    assert path.parent == cache
    assert torch.equal(torch.load(path)["weight"], torch.ones(3))
    for source in tmp_path.glob("tiny-*"):
        source.unlink()
    assert torchvision_weights.download(release) == path


def test_what_arrives_is_held_to_its_digest(cache: Path, tmp_path: Path):
    (file := tmp_path / "tiny.pth").write_bytes(b"not what was published")
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*hash"):
        torchvision_weights.download(release_of(file, "0" * 64))
    assert not list(cache.iterdir())


def test_without_a_network_the_error_tells_where_the_file_is(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens on the discard port
    with pytest.raises(
        WeightsError, match=r"https://download\.pytorch\.org/models/resnet18-f37072fd\.pth cannot be down"
    ):
        torchvision_weights.find("ResNet18_Weights.DEFAULT")
    assert not list(cache.iterdir())
