import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.artifact.artifact import Artifact
from models.artifact.metadata import Metadata
from models.engines.engine import EngineError
from models.engines.loader import load_engine
from models.engines.onnx_binding import BoundSession

LinearModel = Callable[[Metadata], onnx.ModelProto]

LARGEST = 6


@pytest.fixture
def artifact(metadata: Metadata, linear_model: LinearModel) -> Artifact:
    return released(linear_model(metadata), metadata)


def released(model: onnx.ModelProto, metadata: Metadata) -> Artifact:
    return Artifact("animals", 1, metadata, model.SerializeToString(), "", None)


def pictures(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 1), dtype=np.uint8)


@pytest.mark.parametrize("n", [1, 2, 3, 33])
def test_logits_are_the_graphs(artifact: Artifact, weight: NDArray[np.float32], n: int):
    engine = load_engine(artifact)
    logits = engine.run(pictures(n))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, pictures(n).reshape(n, 36).astype(np.float64) @ weight, rtol=1e-4, atol=1e-2)


def test_an_engine_tells_what_it_is(artifact: Artifact):
    engine = load_engine(artifact, engine="auto")
    assert (engine.name, engine.device, engine.precision) == ("onnxruntime", "cpu", "fp32")
    assert engine.library == f"onnxruntime {ort.__version__}"


def test_a_quantised_graph_is_computed_as_it_is(metadata: Metadata, linear_model: LinearModel):
    metadata = replace(metadata, precision="int8")
    artifact = released(linear_model(metadata), metadata)
    assert load_engine(artifact).precision == "int8"
    for choice in ({"precision": "fp32"}, {"engine": "torch"}):
        with pytest.raises(EngineError, match="animals is a graph in int8; run it with --engine onnxruntime"):
            load_engine(artifact, **choice)


def test_bytes_that_are_no_graph_are_an_engine_error(artifact: Artifact):
    with pytest.raises(EngineError, match="ONNX Runtime cannot load animals with CPUExecutionProvider"):
        load_engine(replace(artifact, model=artifact.model[:-20]))


def test_pictures_of_another_size_are_an_engine_error(artifact: Artifact):
    with pytest.raises(EngineError, match=r"failed on a batch of \(2, 7, 7, 1\)"):
        load_engine(artifact).run(np.zeros((2, 7, 7, 1), np.uint8))


def test_an_answer_of_another_size_is_an_engine_error(metadata: Metadata, linear_model: LinearModel):
    model = linear_model(metadata)
    model.graph.node[-1].output[0] = "each"
    model.graph.node.append(helper.make_node("Concat", ["each", "each"], ["logits"], axis=0))
    with pytest.raises(EngineError, match=r"2 images in, \(4, 3\) out, 3 classes expected"):
        load_engine(released(model, metadata)).run(pictures(2))


@pytest.mark.parametrize(("engine", "provider"), [("onnxruntime", "CUDA"), ("tensorrt", "Tensorrt")])
def test_a_gpu_without_its_provider_is_refused_with_the_remedy(artifact: Artifact, engine: str, provider: str):
    if f"{provider}ExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is made for GPUs")
    with pytest.raises(EngineError, match=rf"no .*{provider}ExecutionProvider.*install resnet-serve\[gpu\] instead"):
        load_engine(artifact, engine=engine, device="cuda:0")


@pytest.fixture
def bound(metadata: Metadata, linear_model: LinearModel) -> BoundSession:
    """What runs on a GPU, here on the CPU; the graph adds the size of the batch that it got to every logit."""
    model = linear_model(metadata)
    model.graph.node[-1].output[0] = "products"
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["image"], ["shape"]),
            helper.make_node("Gather", ["shape", "first"], ["size"]),
            helper.make_node("Cast", ["size"], ["offset"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["products", "offset"], ["logits"]),
        ]
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return BoundSession(session, "cpu", 0, (LARGEST, 6, 6, 1))


def test_a_bound_session_runs_padded_batches(bound: BoundSession, weight: NDArray[np.float32]):
    sizes = {1: 1, 2: 2, 3: 4, 4: 4, 5: 6, 6: 6}
    for n in (6, 1, 3, 5, 2, 4, 3, 1):
        images = pictures(n, seed=n)
        expected = images.reshape(n, 36).astype(np.float64) @ weight + sizes[n]
        np.testing.assert_allclose(bound.run(images), expected, rtol=1e-4, atol=1e-2)


def test_an_answer_stays_when_the_next_batch_runs(bound: BoundSession):
    first = bound.run(pictures(3, seed=1))
    kept = first.copy()
    bound.run(pictures(3, seed=2))
    np.testing.assert_array_equal(first, kept)


def test_threads_that_share_a_bound_session_get_their_own_answers(bound: BoundSession):
    alone = {seed: bound.run(pictures(3, seed)) for seed in range(4)}
    together = threading.Barrier(4)

    def differing(seed: int) -> int:
        together.wait(timeout=30)
        return sum(not np.array_equal(bound.run(pictures(3, seed)), alone[seed]) for _ in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(differing, range(4))) == [0, 0, 0, 0]
