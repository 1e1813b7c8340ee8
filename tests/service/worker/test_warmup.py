"""How large batches may be, and how long: what is made of latencies, and what the settings make of that."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.artifact.artifact import read_artifact, write_artifact
from models.artifact.metadata import ArtifactError
from models.engines.golden import GoldenBatch
from models.engines.loader import load_engine
from service.batch_costs import best_batch_size
from service.policy import LARGEST_BATCH
from service.worker.warmup import (
    LoadedModel,
    LoadOptions,
    load_model,
    measure,
    warm_while_it_pays,
)
from tests.artifacts import SHAPE, make_artifact, mixed
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Servers

MS = 1_000_000
SIZES = (1, 2, 4, 8, 16, 32, 64)
DELAY_S = 0.2
EXAMPLES = GoldenBatch(np.zeros((1, *SHAPE), np.uint8), np.zeros((1, 1), np.float32), 0.0)


@pytest.fixture(scope="module")
def loaded(repository: Path) -> LoadedModel:
    """A model that is said to take 1 ms for an image and 400 ms for eight."""
    engine = load_engine(read_artifact(repository / "plain" / "2"))
    return LoadedModel(engine, SHAPE, {1: MS, 2: 300 * MS, 8: 400 * MS}, 8, 8)


def test_a_batch_hangs_after_ten_times_what_its_size_took_and_two_seconds_at_least(loaded: LoadedModel) -> None:
    assert [loaded.limits_ns[n] for n in (1, 2, 3, 8)] == [2000 * MS, 3000 * MS, 4000 * MS, 4000 * MS]
    assert len(loaded.limits_ns) == 9  # images of the largest batch, and none


class Timed:
    """An engine, and the clock by which it takes `batch_ms` and `image_ms` for each image: no real time passes.

    Its first runs take longer by so many ms each.
    """

    name, library, device, precision = "timed", "none", "cpu", "fp32"

    def __init__(self, *delays_ms: float, batch_ms: float = 0.0, image_ms: float = 0.0) -> None:
        self._delays_ms, self._batch_ms, self._image_ms = list(delays_ms), batch_ms, image_ms
        self.now_ns = self.runs = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        delay_ms = self._delays_ms[self.runs] if self.runs < len(self._delays_ms) else 0
        self.runs += 1
        self.now_ns += int((delay_ms + self._batch_ms + len(images) * self._image_ms) * MS)
        return np.zeros((len(images), 1), np.float32)


def measured(monkeypatch: pytest.MonkeyPatch, engine: Timed, size: int, smaller_ms: dict[int, int]) -> float:
    """Milliseconds that a batch of this size is found to take."""
    monkeypatch.setattr("service.worker.warmup.time", engine)
    return measure(engine, EXAMPLES, size, {other: ms * MS for other, ms in smaller_ms.items()}) / MS


@pytest.mark.parametrize(
    ("batch_ms", "image_ms", "sizes"),
    [(0, 20, (1, 2, 4, 8)), (0, 150, (1, 2)), (60, 0, SIZES)],
    ids=["quick", "slow", "constant"],
)
def test_a_start_is_not_held_up_by_slow_batches_that_cannot_pay(
    monkeypatch: pytest.MonkeyPatch, batch_ms: float, image_ms: float, sizes: tuple[int, ...]
) -> None:
    engine = Timed(batch_ms=batch_ms, image_ms=image_ms)
    monkeypatch.setattr("service.worker.warmup.time", engine)
    assert tuple(warm_while_it_pays(engine, EXAMPLES, SIZES[-1])) == sizes


def test_batches_are_of_the_pictures_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.uint8]] = []

    class Seeing(Timed):
        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            seen.append(images)
            return super().run(images)

    engine = Seeing(batch_ms=30)
    monkeypatch.setattr("service.worker.warmup.time", engine)
    pictures = np.stack([np.full(SHAPE, value, np.uint8) for value in (7, 8, 9)])
    measure(engine, replace(EXAMPLES, pixels=pictures), 5, {})
    assert seen[0].shape == (5, *SHAPE)
    assert seen[0][:, 0, 0, 0].tolist() == [7, 8, 9, 7, 8]


def test_a_size_is_measured_until_enough_runs_were_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measured(monkeypatch, Timed(*[2] * 6, batch_ms=1), 1, {}) == 1


def test_the_first_run_of_a_size_warms_it_and_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Timed(-20, batch_ms=30)
    assert measured(monkeypatch, engine, 1, {}) == 30
    assert engine.runs == 2


@pytest.mark.parametrize(
    ("delays_ms", "runs", "found_ms"),
    [([0, 42], 3, 8), ([0, 42, 42], 4, 8), ([42] * 9, 4, 50)],
    ids=["one interruption", "two", "as slow as that"],
)
def test_a_size_that_takes_far_longer_than_smaller_ones_is_measured_again_also_if_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, delays_ms: list[float], runs: int, found_ms: float
) -> None:
    """Two images took 4 ms, so that four should take 8."""
    engine = Timed(*delays_ms, batch_ms=8)
    assert measured(monkeypatch, engine, 4, {1: 30, 2: 4}) == found_ms
    assert engine.runs >= runs


def test_a_slow_size_that_is_as_quick_as_was_to_be_expected_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Timed(batch_ms=200)
    assert measured(monkeypatch, engine, 4, {2: 100}) == 200
    assert engine.runs == 1


def load(repository: Path, name: str, largest: int) -> LoadedModel:
    (version,) = sorted((repository / name).iterdir())[-1:]
    return load_model(read_artifact(version), "cpu", LoadOptions("auto", "auto", False, 1, {name: largest}))


def test_a_size_that_is_set_is_warmed_with_the_doublings_below_it(repository: Path) -> None:
    model = load(repository, "plain", 6)
    assert (list(model.latency_ns), model.max_batch_size) == ([1, 2, 4, 6], 6)


def test_the_automatic_mode_takes_what_pays_here(repository: Path) -> None:
    model = load(repository, "plain", 0)
    assert model.max_batch_size == best_batch_size(model.latency_ns)
    assert list(model.latency_ns) == list(SIZES[: len(model.latency_ns)])
    assert max(model.latency_ns) in (LARGEST_BATCH["cpu"], 2 * model.max_batch_size)


def test_a_model_that_fails_its_examples_is_not_loaded(repository: Path) -> None:
    with pytest.raises(ArtifactError, match="golden example"):
        load(repository, "wrong", 1)


def test_a_model_whose_images_change_each_other_is_not_loaded_but_for_batches_of_one(tmp_path: Path) -> None:
    """As a graph that other tools made: it knows each example if it comes alone."""
    path = make_artifact(tmp_path, "mixing") / "model.onnx"
    write_artifact(tmp_path, "mixing", 2, mixed(onnx.load(path)), None)
    with pytest.raises(ArtifactError, match=r"golden examples in a batch of 2: logits differ by .*--max-batch-size"):
        load(tmp_path, "mixing", 0)
    assert load(tmp_path, "mixing", 1).max_batch_size == 1


def test_each_model_has_its_own_batches(serve: Servers, repository: Path) -> None:
    own = {"colour": {"max_batch_size": 3}, "faulty": {"max_batch_size": 0}, "plain": {"batch_delay": DELAY_S}}
    flags = ("--default-model", "plain", "--workers", "1", "--max-batch-size", "5", "--batching", json.dumps(own))
    served = serve("--model-repository", repository, *flags).ready()
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        plain, colour, faulty = (client.get(f"/models/{name}").json() for name in ("plain", "colour", "faulty"))
        answer = client.post("/predict", content=png()).json()
    assert (plain["max_batch_size"], list(plain["batch_latency_ms"])) == (5, ["1", "2", "4", "5"])
    assert (colour["max_batch_size"], list(colour["batch_latency_ms"])) == (3, ["1", "2", "3"])
    assert str(faulty["max_batch_size"]) in faulty["batch_latency_ms"]
    assert "3" not in faulty["batch_latency_ms"]
    assert answer["timings_ms"]["queue"] >= DELAY_S * 1e3  # for other images, of which there are none
