import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.golden import verify
from models.engines.loader import load_engine
from models.engines.torch_engine import HostMemory
from tests.networks import random_pictures


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The engine sets those of the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=["digit_network", "colour_network"])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    network: Artifact = request.getfixturevalue(request.param)
    return network


def with_weights(artifact: Artifact, **changes: Tensor | None) -> Artifact:
    """The artifact with these tensors instead of its own; None takes one away."""
    assert artifact.weights is not None
    weights = safetensors.torch.load(artifact.weights) | changes
    kept = {name: value for name, value in weights.items() if value is not None}
    return replace(artifact, weights=safetensors.torch.save(kept))


def with_metadata(artifact: Artifact, **changes: object) -> Artifact:
    return replace(artifact, metadata=replace(artifact.metadata, **changes))  # type: ignore[arg-type]


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """As a fraction of the largest logit."""
    return float(np.abs(a - b).max() / np.abs(a).max())


def test_the_golden_examples_hold(artifact: Artifact):
    verify(artifact, load_engine(artifact, Backend("torch")))


def test_other_weights_do_not_pass_the_golden_examples(digit_network: Artifact):
    changed = with_weights(digit_network, **{"fc.bias": torch.linspace(-1, 1, 10)})
    with pytest.raises(ArtifactError, match=r"logits differ by .* torch 2\.\S+ on cpu"):
        verify(changed, load_engine(changed, Backend("torch")))


@pytest.mark.parametrize("n", [1, 2, 5, 32])
def test_it_answers_as_onnx_runtime_does(artifact: Artifact, n: int):
    images = random_pictures(artifact, n)
    expected = load_engine(artifact).run(images)
    logits = load_engine(artifact, Backend("torch")).run(images)
    assert logits.dtype == np.float32
    assert largest_difference(expected, logits) < 1e-5
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def test_bf16_is_another_arithmetic_within_its_tolerance(artifact: Artifact):
    engine = load_engine(artifact, Backend("torch", "bf16"))
    verify(artifact, engine)
    images = random_pictures(artifact, 32)
    expected = load_engine(artifact).run(images)
    assert 1e-4 < largest_difference(expected, engine.run(images)) < artifact.metadata.tolerance["bf16"]


def test_an_engine_tells_what_it_is(digit_network: Artifact):
    engine = load_engine(digit_network, Backend("torch", "bf16"))
    assert (engine.name, engine.device, engine.precision) == ("torch", "cpu", "bf16")
    assert engine.library == f"torch {torch.__version__}"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_process(digit_network: Artifact, threads: int):
    load_engine(digit_network, Backend("torch"), threads=threads)
    assert torch.get_num_threads() == threads


def test_waiting_threads_leave_the_core_to_others(networks: Path):
    code = f"""
from pathlib import Path
from models.artifact.artifact import read_artifact
from models.engines.backend import Backend
from models.engines.loader import load_engine
load_engine(read_artifact(Path({str(networks)!r}, "resnet20", "1")), Backend("torch"), threads=2)
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE"}  # OpenMP prints what it goes by
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "GOMP_SPINCOUNT = '0'" in result.stderr


def test_pictures_may_be_read_only_and_lie_anyhow_in_memory(colour_network: Artifact):
    engine = load_engine(colour_network, Backend("torch"))
    images = random_pictures(colour_network, 6)
    expected = engine.run(images[::-2].copy())
    images.flags.writeable = False
    np.testing.assert_array_equal(engine.run(images[::-2]), expected)


def test_weights_in_half_precision_are_computed_in_fp32(digit_network: Artifact):
    assert digit_network.weights is not None
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in safetensors.torch.load(digit_network.weights).items()
    }
    images = random_pictures(digit_network, 3)
    logits = load_engine(with_weights(digit_network, **halves), Backend("torch")).run(images)
    expected = load_engine(digit_network, Backend("torch")).run(images)
    assert 0 < largest_difference(expected, logits) < 1e-2


def test_pictures_of_another_shape_are_an_engine_error(digit_network: Artifact):
    with pytest.raises(EngineError, match=r"PyTorch failed on a batch of \(2, 28, 28, 3\)"):
        load_engine(digit_network, Backend("torch")).run(np.zeros((2, 28, 28, 3), np.uint8))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, g++")
def test_a_compiled_network_answers_alike_and_is_compiled_no_more_once_it_is_warm(digit_network: Artifact):
    engine = load_engine(digit_network, Backend("torch", compiled=True))
    with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(EngineError, match="compile"):
        engine.run(random_pictures(digit_network, 1))
    for n in (1, 2, 8):
        engine.run(random_pictures(digit_network, n))
    with torch.compiler.set_stance("fail_on_recompile"):
        for n in (1, 2, 3, 7):
            images = random_pictures(digit_network, n)
            assert largest_difference(load_engine(digit_network).run(images), engine.run(images)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fc.bias": None}, 'Missing key.*"fc.bias"'),
        ({"fc2.bias": torch.zeros(10)}, 'Unexpected key.*"fc2.bias"'),
        ({"fc.bias": torch.zeros(11)}, "size mismatch for fc.bias"),
    ],
)
def test_weights_of_another_network_are_refused(
    digit_network: Artifact, changes: dict[str, Tensor | None], complaint: str
):
    with pytest.raises(EngineError, match=rf"(?s)of another network: .*{complaint}.*--engine onnxruntime"):
        load_engine(with_weights(digit_network, **changes), Backend("torch"))


def test_damaged_weights_are_refused(digit_network: Artifact):
    assert digit_network.weights is not None
    with pytest.raises(EngineError, match=r"model\.safetensors is damaged.*--engine onnxruntime"):
        load_engine(replace(digit_network, weights=digit_network.weights[:-9]), Backend("torch"))


def test_an_artifact_without_weights_is_refused(digit_network: Artifact):
    with pytest.raises(EngineError, match=r"mnist-residual-bn/1 has no model\.safetensors.*--engine onnxruntime"):
        load_engine(replace(digit_network, weights=None), Backend("torch"))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": "resnet19"}, "unknown network 'resnet19', did you mean"),
        ({"arguments": {"shortcut": "C"}}, "shortcut is 'C', must be one of"),
        ({"arguments": {"width": "64"}}, "has no argument 'width'"),
        ({"arguments": {"classes": "7"}}, "gives the class count as an argument"),
        ({"arguments": {"name": "resnet20"}}, "has no argument 'name'"),
    ],
)
def test_an_unknown_architecture_is_refused(colour_network: Artifact, changes: dict[str, object], complaint: str):
    with pytest.raises(EngineError, match=f"resnet20/1: .*{complaint}.*--engine onnxruntime"):
        load_engine(with_metadata(colour_network, **changes), Backend("torch"))


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(digit_network: Artifact):
    with pytest.raises(EngineError, match=r"device cuda:0 was asked for, and PyTorch .* finds 0 GPUs"):
        load_engine(digit_network, Backend("torch"), device="cuda:0")


def test_host_memory_gives_padded_batches_without_remains_of_the_last(digit_network: Artifact):
    memory = HostMemory((8, 28, 28, 1), torch.device("cpu"))
    memory.upload(random_pictures(digit_network, 8))
    images = random_pictures(digit_network, 3)
    batch = memory.upload(images)
    assert (batch.shape, batch.dtype) == ((4, 28, 28, 1), torch.uint8)
    np.testing.assert_array_equal(batch[:3].numpy(), images)
    assert not batch[3].any()


def test_each_run_computes_in_its_own_precision_whatever_was_loaded_since(digit_network: Artifact):
    """TF32 is one switch for all networks of a process."""
    engine = load_engine(digit_network, Backend("torch", "fp32"))
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        engine.run(random_pictures(digit_network, 1))
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
