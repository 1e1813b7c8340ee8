"""The files as timm and transformers write them themselves, and what both do with pictures by them."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.data
from PIL import Image
from timm.models import save_for_hf
from transformers import ConvNextImageProcessorPil, ResNetConfig, ViTImageProcessorPil

from models.images.decoder import Preprocessor
from training.errors import WeightsError
from training.weights.model_config import ModelConfig, read_model_config
from training.weights.model_spec import ModelSpec

LABELS = ("ant", "bee", "cat", "dog", "elk")
KNOWN = ModelSpec(labels=LABELS)


def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 53, 3), np.uint8)
    Image.fromarray(noise).resize((500, 400)).save(path := tmp_path / "picture.png")
    return path


def pixels(config: ModelConfig, path: Path) -> np.ndarray:
    """What the server makes of the picture, normalised: [h, w, c]."""
    _, spec = config.spec.over(KNOWN).settle(len(LABELS), 224)
    return (Preprocessor(spec, 10**6)(path.read_bytes()) / 255 - spec.mean) / spec.std


def read(tmp_path: Path) -> ModelConfig:
    found = read_model_config(tmp_path / "model.safetensors")
    assert found is not None
    return found


@pytest.mark.parametrize("changes", [{}, {"crop_pct": 0.95, "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5)}])
def test_timms_pictures_are_made_as_timm_makes_them(tmp_path: Path, changes: dict[str, object]):
    network = timm.create_model("resnet18", num_classes=5, pretrained_cfg_overlay=changes)
    save_for_hf(network, tmp_path, model_config={"label_names": list(LABELS)})
    config = read(tmp_path)
    assert (config.architecture, config.other_function) == ("resnet18", None)
    assert config.spec.labels == LABELS
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    theirs = transform(Image.open(path := picture(tmp_path))).permute(1, 2, 0).numpy()
    assert np.abs(pixels(config, path) - theirs).max() < 1.5 / 255 / 0.224


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("resnetaa50", {}, "resnetaa50 blurs"),
        ("resnetblur18", {}, "resnetblur18 blurs"),
        ("resnet18", {"act_layer": "silu"}, "resnet18 with act_layer silu computes something else"),
        ("resnet26", {}, "resnet26 is no network"),
    ],
)
def test_networks_of_the_same_weights_and_another_function_are_named(tmp_path, name, arguments, told):
    save_for_hf(timm.create_model(name, **arguments), tmp_path, model_args=arguments or None)
    assert told in (read(tmp_path).other_function or "")


def test_arguments_that_change_no_function_are_let_pass(tmp_path: Path):
    network = timm.create_model("resnet18", num_classes=5, drop_rate=0.5)
    save_for_hf(network, tmp_path, model_args={"num_classes": 5, "drop_rate": 0.5})
    assert read(tmp_path).other_function is None


def test_transformers_pictures_are_made_as_transformers_makes_them(tmp_path: Path):
    names = dict(enumerate(LABELS))
    ResNetConfig(
        depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic", id2label=names
    ).save_pretrained(tmp_path)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875, resample=3)
    processor.save_pretrained(tmp_path)
    config = read(tmp_path)
    assert (config.architecture, config.other_function, config.spec.labels) == ("resnet18", None, LABELS)
    assert config.files == ("config.json", "preprocessor_config.json")
    theirs = processor(Image.open(path := picture(tmp_path)), return_tensors="np")["pixel_values"][0]
    assert np.abs(pixels(config, path) - theirs.transpose(1, 2, 0)).max() < 1.5 / 255 / 0.224


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_act": "gelu"}, "hidden_act gelu"),
        ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck True"),
        ({"embedding_size": 32}, "embedding_size 32"),
        ({"depths": [1, 1, 1, 1]}, "bottleneck blocks (1, 1, 1, 1)"),
    ],
)
def test_transformers_networks_of_another_function_are_named(tmp_path: Path, changes: dict[str, object], told: str):
    ResNetConfig(**changes).save_pretrained(tmp_path)
    assert told in (read(tmp_path).other_function or "")


def test_another_family_is_named(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "convnext"}))
    assert read(tmp_path).other_function == "a convnext is no network that this project knows"


@pytest.mark.parametrize(
    "processor",
    [ViTImageProcessorPil(size={"height": 224, "width": 224}), ConvNextImageProcessorPil(size={"shortest_edge": 384})],
)
def test_pictures_are_squeezed_unless_one_says_how_to_crop(tmp_path: Path, processor):
    processor.save_pretrained(tmp_path)
    spec = read(tmp_path).spec.over(KNOWN)
    squeezed = spec.settle(5, 224)[1]
    assert (squeezed.crop, squeezed.resize) == ("squash", squeezed.height)
    cropped = ModelSpec(resize=400).over(spec).settle(5, 224)[1]
    assert (cropped.crop, cropped.resize) == ("center", 400)


@pytest.mark.parametrize("changes", [{"do_rescale": False}, {"rescale_factor": 1.0}])
def test_another_scale_of_pixels_is_refused(tmp_path: Path, changes: dict[str, object]):
    ViTImageProcessorPil(**changes).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="another scale of pixels"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"architecture": "resnet18", "pretrained_cfg": {"input_size": 3}}'])
def test_a_file_that_is_not_theirs_is_told(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json .*beside"):
        read(tmp_path)


@pytest.mark.parametrize("text", [None, "[]", '{"lr": 0.1}'])
def test_settings_of_other_programs_say_nothing(tmp_path: Path, text: str | None):
    if text:
        (tmp_path / "config.json").write_text(text)
    assert read_model_config(tmp_path / "model.safetensors") is None
