from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from models.artifact.artifact import Artifact
from models.artifact.metadata import Metadata
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.loader import load_engine

LinearModel = Callable[[Metadata], onnx.ModelProto]


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
    engine = load_engine(artifact)
    assert (engine.name, engine.device, engine.precision) == ("onnxruntime", "cpu", "fp32")
    assert engine.library == f"onnxruntime {ort.__version__}"


def test_a_quantised_graph_is_computed_as_it_is(metadata: Metadata, linear_model: LinearModel):
    metadata = replace(metadata, precision="int8")
    artifact = released(linear_model(metadata), metadata)
    assert load_engine(artifact).precision == "int8"


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
        load_engine(artifact, Backend(engine, "tf32"), device="cuda:0")


def test_a_graph_in_fp16_is_computed_as_it_is(
    metadata: Metadata, linear_model: LinearModel, monkeypatch: pytest.MonkeyPatch
):
    """Where only serving is installed there is no onnx to convert it with, and nothing to convert."""

    def convert(_: bytes) -> bytes:
        raise AssertionError("it is in fp16 already")

    monkeypatch.setattr("models.engines.onnx_engine.to_fp16", convert)
    metadata = replace(metadata, precision="fp16")
    engine = load_engine(released(linear_model(metadata), metadata), Backend("onnxruntime", "fp16"))
    assert engine.run(pictures(2)).shape == (2, 3)
