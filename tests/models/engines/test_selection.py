"""Which way to run a model is chosen: by tables of what was measured, and by engines that run."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.artifact.artifact import Artifact, read_artifact, write_artifact
from models.artifact.metadata import ArtifactError
from models.engines.backend import Backend
from models.engines.engine import Engine
from models.engines.selection import Attempt, attempt, choose, too_inexact
from tests.artifacts import In8Bits, make_artifact, mixed

FP32, INT8, BF16 = Backend(), Backend(precision="int8"), Backend("torch", "bf16")
BROKEN = "it does not load"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return read_artifact(make_artifact(tmp_path_factory.mktemp("models"), "both", int8=In8Bits(lost=0.3)))


@pytest.mark.parametrize(
    ("speeds", "chosen", "why"),
    [
        ([(FP32, 100), (INT8, 100)], FP32, "no other is 10% faster"),
        ([(FP32, 100), (INT8, 109)], FP32, "no other is 10% faster"),
        ([(FP32, 100), (INT8, 211)], INT8, "2.11 times as fast as onnxruntime fp32 and loses 0.3 points of accuracy"),
        ([(FP32, 100), (INT8, 50)], FP32, "no other is 10% faster"),
        ([(FP32, 100), (INT8, 150), (BF16, 160)], INT8, "1.50 times"),  # 160 is hardly more than 150
        ([(FP32, 100), (INT8, 105), (BF16, 112)], BF16, "1.12 times as fast as onnxruntime fp32"),
        ([(FP32, BROKEN), (INT8, 50)], INT8, "the only one"),
        ([(FP32, 100), (INT8, BROKEN)], FP32, "the only one"),
    ],
)
def test_the_most_exact_is_taken_unless_another_is_clearly_faster(
    artifact: Artifact, speeds: list[tuple[Backend, float | str]], chosen: Backend, why: str
):
    attempts = [
        Attempt(each, refused=found) if isinstance(found, str) else Attempt(each, found) for each, found in speeds
    ]
    choice = choose(artifact, attempts)
    assert choice.candidate == chosen
    assert why in choice.why
    assert choice.attempts == tuple(attempts)


def test_where_there_is_one_way_nothing_was_chosen(artifact: Artifact):
    assert choose(artifact, [Attempt(FP32)]) == choose(artifact, [Attempt(FP32, 7.0)])
    with pytest.raises(ArtifactError, match=r"^it does not load$"):
        choose(artifact, [Attempt(FP32, refused=BROKEN)])


def test_where_no_way_will_do_each_says_why(artifact: Artifact):
    with pytest.raises(ArtifactError, match=f"^onnxruntime fp32: {BROKEN}; onnxruntime int8: no accuracy$"):
        choose(artifact, [Attempt(FP32, refused=BROKEN), Attempt(INT8, refused="no accuracy")])


def test_accuracy_that_is_lost_is_held_against_what_may_be(artifact: Artifact):
    assert too_inexact(artifact, FP32, 0.0) == ""
    assert too_inexact(artifact, INT8, 0.3) == ""
    assert "loses 0.3 points of accuracy, more than the 0.29 of --max-accuracy-loss" in too_inexact(
        artifact, INT8, 0.29
    )
    assert artifact.int8
    unknown = replace(artifact.int8, metadata=replace(artifact.int8.metadata, metrics={}))
    assert "is not recorded" in too_inexact(replace(artifact, int8=unknown), INT8, 100)


def test_each_is_proved_and_those_that_are_sound_are_timed(tmp_path: Path):
    slow = dict.fromkeys(range(256), 5)  # milliseconds
    artifact = read_artifact(make_artifact(tmp_path, "both", loops=slow, int8=In8Bits()))
    begun: list[Backend] = []
    ways = (FP32, BF16, INT8)
    fp32, bf16, int8 = attempt(artifact, ways, device="cpu", threads=1, max_batch=2, begin=begun.append)
    assert begun[:3] == [*ways]
    assert begun[3:5] == [FP32, INT8]  # when they are timed
    assert "has no model.safetensors" in bf16.refused
    assert int8.images_per_second > 2 * fp32.images_per_second > 0
    assert choose(artifact, [fp32, bf16, int8]).candidate == INT8


def test_one_that_fails_its_own_examples_is_refused(tmp_path: Path):
    artifact = read_artifact(make_artifact(tmp_path, "both", int8=In8Bits(golden_error=9.0)))
    fp32, int8 = attempt(artifact, (FP32, INT8), device="cpu", threads=1, max_batch=8)
    assert not fp32.refused
    assert "logits differ" in int8.refused


def test_one_that_is_right_for_single_images_alone_is_refused(tmp_path: Path):
    path = make_artifact(tmp_path, "mixing") / "model.onnx"
    artifact = read_artifact(write_artifact(tmp_path, "mixing", 2, mixed(onnx.load(path)), None))
    (fp32,) = attempt(artifact, [FP32], device="cpu", threads=1, max_batch=8)
    assert "golden examples in a batch of 4: logits differ" in fp32.refused
    (alone,) = attempt(artifact, [FP32], device="cpu", threads=1, max_batch=1)
    assert not alone.refused


def test_batches_of_large_pictures_are_small(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    """All candidates have memory for one at the same time."""
    sizes: list[int] = []

    def speeds(engines: list[Engine], images: NDArray[np.uint8], *_: object) -> list[float]:
        sizes.append(len(images))
        return [1.0] * len(engines)

    monkeypatch.setattr("models.engines.selection.images_per_second", speeds)
    for pixels in (1 << 20, 2 * math.prod(artifact.input_shape), 1):
        monkeypatch.setattr("models.engines.selection._TIMED_BYTES", pixels)
        attempt(artifact, (FP32, INT8), device="cpu", threads=1, max_batch=8)
    assert sizes == [4, 2, 1]
