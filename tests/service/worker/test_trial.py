"""How a model is run is tried in a process of its own, and whatever happens there is a reason."""

import os
import shutil
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact.artifact import Artifact, read_artifact
from models.artifact.metadata import ArtifactError
from models.engines.backend import Backend
from models.engines.engine import Engine, EngineError
from models.engines.loader import load_engine
from models.engines.selection import Choice
from service.worker.trial import Selector
from service.worker.warmup import LoadOptions
from tests.artifacts import In8Bits, make_artifact
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Servers, until

PATIENCE_S = 60.0
FP32, INT8 = Backend(), Backend(precision="int8")
SLOW = dict.fromkeys(range(256), 5)  # milliseconds that any batch takes


def select(artifact: Artifact, precision: str = "auto", seconds: float = PATIENCE_S) -> Choice:
    load = LoadOptions("auto", precision, False, 1, {}, 0.5)
    selector = Selector("cpu", load, seconds)
    selector.try_version(artifact)
    return selector.choices([artifact])[artifact.name, artifact.version]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return read_artifact(make_artifact(tmp_path_factory.mktemp("models"), "plain"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is clearly faster in what is called 8 bits, for 0.1 points of accuracy."""
    return make_artifact(tmp_path_factory.mktemp("models"), "quick", loops=SLOW, int8=In8Bits())


def test_a_sound_version_passes(plain: Artifact) -> None:
    assert select(plain) == Choice(FP32)


def test_golden_examples_that_differ_are_told(tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(tmp_path, "plain", golden_error=1.0))
    with pytest.raises(ArtifactError, match="logits differ"):
        select(artifact)


def test_one_that_takes_too_long_is_told(plain: Artifact) -> None:
    with pytest.raises(ArtifactError, match="did not load within 0 s"):
        select(plain, seconds=0.0)


def ends_with(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process that loads a model in this precision end, as drivers have it."""

    def load(artifact: Artifact, candidate: Backend, **_: object) -> Engine:
        if candidate.precision == precision:
            os.kill(os.getpid(), signal.SIGKILL)
        return load_engine(artifact, candidate)

    monkeypatch.setattr("models.engines.selection.load_engine", load)


def test_the_end_of_the_process_is_told(plain: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_with("fp32", monkeypatch)
    with pytest.raises(ArtifactError, match="ended with -9"):
        select(plain)


@pytest.mark.parametrize(("ending", "left"), [("int8", FP32), ("fp32", INT8)])
def test_a_way_that_ends_the_process_leaves_the_others(
    quick: Path, monkeypatch: pytest.MonkeyPatch, ending: str, left: Backend
) -> None:
    ends_with(ending, monkeypatch)
    choice = select(read_artifact(quick), "fastest")
    assert (choice.candidate, choice.why) == (left, "it is the only one that may be used")
    (refused,) = (each.refused for each in choice.attempts if each.candidate != left)
    assert "ended with -9" in refused


def test_a_way_that_leaves_the_process_without_its_gpu_leaves_the_others(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = []

    def load(artifact: Artifact, candidate: Backend, **_: object) -> Engine:
        broken.append(candidate) if candidate == FP32 else None
        if broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return load_engine(artifact, candidate)

    monkeypatch.setattr("models.engines.selection.load_engine", load)
    choice = select(read_artifact(quick), "fastest")
    assert choice.candidate == INT8
    assert choice.attempts[0].refused == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert "Traceback" not in capfd.readouterr().err


def test_a_way_that_fails_when_it_runs_spoils_none_of_the_others(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's error may be CUDA's, after which nothing runs in that process."""
    broken = []

    class Failing:
        """An engine that fails, and with it all others of its process."""

        def __init__(self, engine: Engine, fails: bool) -> None:
            self._engine, self._fails = engine, fails
            self.precision, self.device, self.library, self.name = (
                engine.precision,
                engine.device,
                engine.library,
                engine.name,
            )

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            broken.extend([True] * self._fails)
            if broken:
                raise EngineError("CUDA failure 700")
            return self._engine.run(images)

    def load(artifact: Artifact, candidate: Backend, **_: object) -> Engine:
        return Failing(load_engine(artifact, candidate), candidate == FP32)

    monkeypatch.setattr("models.engines.selection.load_engine", load)
    choice = select(read_artifact(quick), "fastest")
    assert choice.candidate == INT8
    assert [each.refused for each in choice.attempts] == ["CUDA failure 700", ""]


def test_a_precision_that_is_named_is_taken_whatever_it_loses(tmp_path: Path) -> None:
    artifact = read_artifact(make_artifact(tmp_path, "lossy", int8=In8Bits(lost=3.0)))
    assert select(artifact, "int8") == Choice(INT8)
    fastest = select(artifact, "fastest")
    assert fastest.candidate == FP32
    assert "loses 3 points" in fastest.attempts[1].refused


def test_a_way_that_hangs_leaves_the_others(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(artifact: Artifact, candidate: Backend, **_: object) -> Engine:
        if candidate == INT8:
            time.sleep(PATIENCE_S)
        return load_engine(artifact, candidate)

    monkeypatch.setattr("models.engines.selection.load_engine", load)
    choice = select(read_artifact(quick), "fastest", seconds=2.0)
    assert choice.candidate == FP32
    assert "did not load within 2 s" in choice.attempts[1].refused


def test_models_with_one_way_are_tried_only_if_that_is_asked_for(plain: Artifact, quick: Path) -> None:
    selector = Selector("cpu", LoadOptions("auto", "fastest", False, 1, {}, 0.5), PATIENCE_S)
    choices = selector.choices([plain, read_artifact(quick)])
    assert {name: choice.candidate for (name, _), choice in choices.items()} == {"quick": INT8}


def test_a_server_takes_what_is_faster_if_it_costs_little_accuracy_and_says_so(serve: Servers, quick: Path) -> None:
    served = serve("--model-repository", quick.parent.parent, "--precision", "fastest", "--workers", "2").ready()
    model = httpx.get(f"{served.url}/models/quick", timeout=DEADLINE_S).json()
    artifact = read_artifact(quick).int8
    assert artifact
    assert (model["precision"], model["sha256"], model["metrics"]) == (
        "int8",
        artifact.sha256,
        artifact.metadata.metrics,
    )
    assert "times as fast as onnxruntime fp32 and loses 0.1 points of accuracy" in model["why"]
    fp32, int8 = model["candidates"]
    assert (fp32["candidate"], int8["candidate"]) == ("onnxruntime fp32", "onnxruntime int8")
    assert int8["images_per_second"] > fp32["images_per_second"]
    assert served.wait_for_event("way to run chosen", model="quick", way="onnxruntime int8")["why"] == model["why"]
    assert httpx.post(f"{served.url}/predict", content=png(), timeout=DEADLINE_S).status_code == 200
    (info,) = (
        line
        for line in httpx.get(f"{served.url}/metrics", timeout=DEADLINE_S).text.splitlines()
        if line.startswith("resnet_model_info{")
    )
    assert 'precision="int8"' in info
    assert artifact.sha256 in info


def test_a_version_that_comes_while_the_server_runs_is_tried_too(serve: Servers, quick: Path, tmp_path: Path) -> None:
    make_artifact(tmp_path, "quick")
    served = serve("--model-repository", tmp_path, "--precision", "fastest", "--workers", "1").ready()
    assert httpx.get(f"{served.url}/models/quick", timeout=DEADLINE_S).json()["precision"] == "fp32"
    shutil.copytree(quick, tmp_path / "quick" / "2")
    os.kill(served.process.pid, signal.SIGHUP)
    until(lambda: served.events("way to run chosen"), "the choice")
    until(lambda: httpx.get(f"{served.url}/models/quick").json()["version"] == "2", "the new version")
    assert httpx.get(f"{served.url}/models/quick", timeout=DEADLINE_S).json()["precision"] == "int8"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--precision", "fastest", "--max-accuracy-loss", "0.05"], "loses 0.1 points of accuracy, more than the 0.05"),
        (["--precision", "auto"], None),
    ],
)
def test_a_server_stays_exact_where_it_must(serve: Servers, quick: Path, flags: list[str], told: str | None) -> None:
    served = serve("--model-repository", quick.parent.parent, *flags, "--workers", "1").ready()
    model = httpx.get(f"{served.url}/models/quick", timeout=DEADLINE_S).json()
    assert (model["precision"], model["sha256"]) == ("fp32", read_artifact(quick).sha256)
    if told is None:
        assert "candidates" not in model
    else:
        assert told in model["candidates"][1]["refused"]
        assert model["candidates"][0] == {"candidate": "onnxruntime fp32"}  # no speed, for it was not timed
