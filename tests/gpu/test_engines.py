"""Every engine on a GPU: the artifact's own examples, and what ONNX Runtime answers on the CPU."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.artifact.artifact import Artifact
from models.engines.backend import Backend, _is_installed, candidates, candidates_for
from models.engines.engine import Engine, EngineError
from models.engines.golden import verify
from models.engines.loader import load_engine
from models.engines.selection import FASTER, attempt, choose
from tests.networks import random_pictures

MAX_BATCH = 12


GRAPHS = [*candidates("onnxruntime", "cuda", "fastest"), *candidates("onnxruntime", "cuda", "fp32")]
TENSORRT = [*candidates("tensorrt", "cuda", "fastest")]
TORCH = [*candidates("torch", "cuda", "fastest"), *candidates("torch", "cuda", "fp32")]
COMPILED = [*candidates("torch", "cuda", "fp32", compiled=True), *candidates("torch", "cuda", "bf16", compiled=True)]
ALL = [*GRAPHS, *TENSORRT, *TORCH, *COMPILED]


def load(artifact: Artifact, backend: Backend) -> Engine:
    return load_engine(artifact, backend, device="cuda:0", max_batch=MAX_BATCH)


@pytest.fixture(params=ALL, ids=str)
def backend(request: pytest.FixtureRequest, provider: Callable[[str], None]) -> Backend:
    backend: Backend = request.param
    if backend.engine != "torch":
        provider("CUDAExecutionProvider")
    if backend.engine == "tensorrt" and not _is_installed("tensorrt"):
        pytest.skip("TensorRT is not installed: neither libnvinfer nor the package is found")
    if backend.engine == "torch" and not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} is made without CUDA")
    return backend


@pytest.fixture(params=["digit_network", "colour_network"])
def artifact(request: pytest.FixtureRequest) -> Artifact:
    network: Artifact = request.getfixturevalue(request.param)
    return network


def check(artifact: Artifact, engine: Engine, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> None:
    """Each logit within the tolerance, and the same class wherever two classes are not closer than that."""
    logits = engine.run(images)
    allowed = artifact.metadata.tolerance[engine.precision] * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=allowed)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > 2 * allowed
    np.testing.assert_array_equal(logits.argmax(1)[clear], expected.argmax(1)[clear])


def test_golden_examples_and_every_batch_size(backend: Backend, artifact: Artifact):
    engine = load(artifact, backend)
    assert (engine.name, engine.device, engine.precision) == (backend.engine, "cuda:0", backend.precision)
    verify(artifact, engine)
    on_cpu = load_engine(artifact)
    for n in [*range(1, MAX_BATCH + 1), 3, 1]:
        images = random_pictures(artifact, n)
        check(artifact, engine, images, on_cpu.run(images))
    with pytest.raises(EngineError, match=f"at most {MAX_BATCH}"):
        engine.run(random_pictures(artifact, MAX_BATCH + 1))


def test_pictures_alone_and_in_a_batch_get_the_same_answer(backend: Backend, digit_network: Artifact):
    engine = load(digit_network, backend)
    images = random_pictures(digit_network, 5)
    alone = np.concatenate([engine.run(images[i : i + 1]) for i in range(5)])
    check(digit_network, engine, images, alone)


@pytest.mark.parametrize("backend", [*GRAPHS, *TORCH], indirect=True, ids=str)
def test_threads_that_share_an_engine_get_their_own_answers(backend: Backend, digit_network: Artifact):
    engine = load(digit_network, backend)
    on_cpu = load_engine(digit_network)

    def ask(n: int) -> None:
        images = random_pictures(digit_network, n)
        expected = on_cpu.run(images)
        for _ in range(50):
            check(digit_network, engine, images, expected)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, (1, 3, 5, 8)))


def test_compiled_networks_do_not_use_up_each_others_compilations(digit_network: Artifact, colour_network: Artifact):
    if not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} is made without CUDA")
    for artifact in (digit_network, colour_network):
        engine = load(artifact, Backend("torch", "fp32", compiled=True))
        for n in (1, 2, 4, 8, MAX_BATCH):
            engine.run(random_pictures(artifact, n))
        with torch.compiler.set_stance("fail_on_recompile"):
            for n in range(1, MAX_BATCH + 1):
                engine.run(random_pictures(artifact, n))


def test_the_fastest_sound_way_is_chosen(colour_network: Artifact, provider: Callable[[str], None]):
    provider("CUDAExecutionProvider")
    ways = candidates_for(colour_network, "auto", "cuda:0", "fastest")
    attempts = attempt(colour_network, ways, device="cuda:0", threads=1, max_batch=256)
    assert [each.refused for each in attempts if each.candidate.engine == "onnxruntime" and each.refused] == []
    best = choose(colour_network, attempts)
    speeds = {each.candidate: each.images_per_second for each in best.attempts}
    assert speeds[best.candidate] * FASTER >= max(speeds.values())


def test_a_graph_that_would_partly_run_on_the_cpu_is_refused(digit_network: Artifact, provider: Callable[[str], None]):
    provider("CUDAExecutionProvider")
    model = onnx.load_from_string(digit_network.model)
    model.graph.node.append(helper.make_node("Unique", ["logits"], ["different"]))  # has no kernel for CUDA
    model.graph.output.append(helper.make_tensor_value_info("different", TensorProto.FLOAT, ["values"]))
    artifact = replace(digit_network, model=model.SerializeToString())
    with pytest.raises(EngineError, match=r"cannot load .* with CUDAExecutionProvider"):
        load(artifact, Backend("onnxruntime", "tf32"))


def test_a_gpu_with_too_high_a_number_is_refused(digit_network: Artifact, provider: Callable[[str], None]):
    provider("CUDAExecutionProvider")
    for engine in ("onnxruntime", "torch"):
        with pytest.raises(EngineError, match="nvidia-smi"):
            load_engine(digit_network, Backend(engine, "tf32"), device="cuda:99")
