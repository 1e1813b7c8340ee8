import dataclasses
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError, GoldenExample, Metadata, Precision
from models.engines import golden
from models.engines.engine import Engine
from models.engines.loader import load_engine

LinearModel = Callable[[Metadata], onnx.ModelProto]


class Altered:
    """An engine whose logits are changed on their way out."""

    def __init__(self, engine: Engine, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.engine, self.change = engine, change

    def __getattr__(self, name: str) -> object:
        return getattr(self.engine, name)

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.change(self.engine.run(images)).astype(np.float32)


@pytest.fixture
def bare(metadata: Metadata, linear_model: LinearModel) -> Artifact:
    return Artifact("animals", 1, metadata, linear_model(metadata).SerializeToString(), "0" * 64, None)


@pytest.fixture
def engine(bare: Artifact) -> Engine:
    return load_engine(bare)


@pytest.fixture
def artifact(bare: Artifact, engine: Engine) -> Artifact:
    return with_golden(bare, golden.make(bare, engine))


def with_golden(artifact: Artifact, examples: tuple[GoldenExample, ...]) -> Artifact:
    return dataclasses.replace(artifact, metadata=dataclasses.replace(artifact.metadata, golden=examples))


def test_what_was_made_verifies_also_after_json(artifact: Artifact, engine: Engine):
    metadata = Metadata.from_json(artifact.metadata.to_json())
    golden.verify(dataclasses.replace(artifact, metadata=metadata), engine)


def test_examples_are_grey_colour_and_with_alpha_larger_and_smaller(artifact: Artifact, tmp_path):
    images = []
    for example in artifact.metadata.golden:
        path = tmp_path / f"{example.name}.png"
        path.write_bytes(example.png)
        images.append(Image.open(path))
    assert {image.mode for image in images} == {"L", "RGB", "RGBA"}
    assert min(min(image.size) for image in images) < 6 < max(max(image.size) for image in images)
    assert any(image.size == (6, 6) for image in images)
    assert len({image.tobytes() for image in images}) == len(images)


def test_one_seed_makes_the_same_examples_another_seed_others(bare: Artifact, engine: Engine):
    assert golden.make(bare, engine, seed=1) == golden.make(bare, engine, seed=1)
    assert golden.make(bare, engine, seed=1) != golden.make(bare, engine, seed=2)


def test_other_pixels_are_found(artifact: Artifact, engine: Engine):
    """As if a library decoded or resized in another way: one level in one pixel."""
    for number, example in enumerate(artifact.metadata.golden):
        broken = list(artifact.metadata.golden)
        broken[number] = dataclasses.replace(example, pixels_sha256="0" * 64)
        with pytest.raises(ArtifactError, match=rf"example '{example.name}': pixels have .* here: Pillow \d"):
            golden.verify(with_golden(artifact, tuple(broken)), engine)


def test_another_preprocessing_is_found(artifact: Artifact, engine: Engine):
    for change in ({"background": (0, 0, 0)}, {"interpolation": "bicubic"}, {"resize": 7}):
        preprocessing = dataclasses.replace(artifact.metadata.preprocessing, **change)
        metadata = dataclasses.replace(artifact.metadata, preprocessing=preprocessing)
        with pytest.raises(ArtifactError, match="pixels have SHA-256"):
            golden.verify(dataclasses.replace(artifact, metadata=metadata), engine)


@pytest.mark.parametrize(("fraction", "passes"), [(0.5e-4, True), (2e-4, False), (-2e-4, False), (np.nan, False)])
def test_logits_may_differ_by_the_tolerance(artifact: Artifact, engine: Engine, fraction: float, passes: bool):
    def shift(logits: NDArray[np.float32]) -> NDArray[np.float32]:
        return logits + fraction * np.abs(logits).max()

    if passes:
        golden.verify(artifact, Altered(engine, shift))
    else:
        with pytest.raises(ArtifactError, match=r"logits differ by .* is allowed.* onnxruntime \d"):
            golden.verify(artifact, Altered(engine, shift))


def test_the_tolerance_is_that_of_the_engines_precision(artifact: Artifact, engine: Engine):
    coarse = Altered(engine, lambda logits: logits * 1.01)
    with pytest.raises(ArtifactError, match="logits differ"):
        golden.verify(artifact, coarse)
    coarse.precision = "bf16"  # type: ignore[attr-defined]
    golden.verify(artifact, coarse)


def test_a_precision_without_tolerance_is_refused(artifact: Artifact, engine: Engine):
    metadata = dataclasses.replace(artifact.metadata, tolerance={"int8": 0.05})
    with pytest.raises(ArtifactError, match="no tolerance for precision fp32"):
        golden.verify(dataclasses.replace(artifact, metadata=metadata), engine)


def test_the_class_must_be_the_same_whatever_the_tolerance(bare: Artifact, engine: Engine):
    (example, *_) = golden.make(bare, engine)
    logits = np.array(example.logits)
    close = logits.copy()
    close[np.argsort(logits)[-2]] = logits.max() + 1e-3  # so near that noise decides, but another class wins
    artifact = with_golden(bare, (dataclasses.replace(example, logits=tuple(close.tolist())),))
    metadata = dataclasses.replace(artifact.metadata, tolerance={"fp32": 10.0})
    with pytest.raises(ArtifactError, match=r"class \d, expected \d"):
        golden.verify(dataclasses.replace(artifact, metadata=metadata), engine)


def test_the_winner_is_clear_beyond_every_precisions_noise(artifact: Artifact):
    for example in artifact.metadata.golden:
        second, first = sorted(example.logits)[-2:]
        assert first - second > 2 * golden.TOLERANCE["int8"] * max(map(abs, example.logits))


def test_a_model_without_examples_is_not_served(bare: Artifact, engine: Engine):
    with pytest.raises(ArtifactError, match="no golden examples"):
        golden.verify(bare, engine)


def test_an_example_that_does_not_decode_is_told(artifact: Artifact, engine: Engine):
    png = artifact.metadata.golden[0].png
    broken = dataclasses.replace(artifact.metadata.golden[0], png=png[: len(png) // 2])
    with pytest.raises(ArtifactError, match="does not decode"):
        golden.verify(with_golden(artifact, (broken,)), engine)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_model_in_8_bits_that_differs_says_what_else_than_versions_may_be_the_cause(
    artifact: Artifact, engine: Engine, precision: Precision
):
    metadata = dataclasses.replace(artifact.metadata, precision=precision, tolerance={engine.precision: 1e-4})
    with pytest.raises(ArtifactError, match="logits differ") as raised:
        golden.verify(dataclasses.replace(artifact, metadata=metadata), Altered(engine, lambda logits: 1.5 * logits))
    told = "CPUs with VNNI" in str(raised.value) and "make the model again with `resnet-train quantize`" in str(
        raised.value
    )
    assert told == (precision == "int8")
