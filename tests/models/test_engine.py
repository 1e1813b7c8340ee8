import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from models.artifact import Artifact, Metadata
from models.engine import EngineError, load_engine

LinearModel = Callable[[Metadata], onnx.ModelProto]


def artifact_of(model: onnx.ModelProto, metadata: Metadata) -> Artifact:
    return Artifact("animals", 1, metadata, model.SerializeToString(), "0" * 64, None)


@pytest.fixture
def artifact(metadata: Metadata, linear_model: LinearModel) -> Artifact:
    return artifact_of(linear_model(metadata), metadata)


def noise(images: int) -> NDArray[np.uint8]:
    return np.random.default_rng(images).integers(0, 256, (images, 6, 6, 1), dtype=np.uint8)


@pytest.mark.parametrize("images", [1, 2, 3, 32, 257])
@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_numpys(artifact: Artifact, weight: NDArray[np.float32], images: int, threads: int):
    engine = load_engine(artifact, threads=threads)
    batch = noise(images)
    logits = engine.run(batch)
    assert (logits.dtype, logits.shape) == (np.float32, (images, 3))
    np.testing.assert_allclose(logits, batch.reshape(images, 36) @ weight.astype(np.float64), rtol=1e-4, atol=1e-2)


def test_a_slice_of_a_larger_array_will_do(artifact: Artifact):
    """As pixels lie in shared memory: each image followed by room for other things."""
    slots = np.zeros((4, 100), np.uint8)
    slots[:, :36] = noise(4).reshape(4, 36)
    images = np.lib.stride_tricks.as_strided(slots, (4, 6, 6, 1), (100, 6, 1, 1), writeable=False)
    engine = load_engine(artifact)
    np.testing.assert_array_equal(engine.run(images), engine.run(noise(4)))


def test_threads_may_share_an_engine(artifact: Artifact):
    engine = load_engine(artifact)
    expected = [engine.run(noise(images)) for images in range(1, 9)]
    found: list[list[NDArray[np.float32]]] = []
    workers = [
        threading.Thread(target=lambda: found.append([engine.run(noise(images)) for images in range(1, 9)]))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for logits in found:
        for one, other in zip(logits, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["auto", "onnxruntime"])
def test_an_engine_says_what_it_is(artifact: Artifact, name: str):
    engine = load_engine(artifact, engine=name)
    assert (engine.name, engine.device, engine.precision) == ("onnxruntime", "cpu", "fp32")


def test_precision_is_the_graphs(artifact: Artifact):
    metadata = dataclasses.replace(artifact.metadata, precision="int8")
    assert load_engine(dataclasses.replace(artifact, metadata=metadata)).precision == "int8"


def test_an_engine_that_does_not_exist_is_told(artifact: Artifact):
    with pytest.raises(EngineError, match="unknown engine 'tensorflow'"):
        load_engine(artifact, engine="tensorflow")


@pytest.mark.parametrize("device", ["tpu", "gpu:x"])
def test_a_device_that_does_not_exist_is_told(artifact: Artifact, device: str):
    with pytest.raises(EngineError, match=f"device '?{device}"):
        load_engine(artifact, device=device)


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime knows GPUs")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_an_error_not_a_slow_engine(artifact: Artifact, device: str):
    with pytest.raises(EngineError, match=r"install resnet-serve\[gpu\]"):
        load_engine(artifact, device=device)


def test_a_graph_that_is_none_is_an_engine_error(artifact: Artifact):
    with pytest.raises(EngineError, match="cannot load animals"):
        load_engine(dataclasses.replace(artifact, model=artifact.model[: len(artifact.model) // 2]))


def test_a_wrong_shape_is_an_engine_error(artifact: Artifact):
    with pytest.raises(EngineError, match=r"failed on a batch of \(2, 6, 5, 1\)"):
        load_engine(artifact).run(np.zeros((2, 6, 5, 1), np.uint8))


def test_a_graph_that_fails_for_a_pixel_is_an_engine_error(metadata: Metadata, linear_model: LinearModel):
    model = linear_model(metadata)
    model.graph.node[-1].output[0] = "sums"
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["image"], ["levels"], to=onnx.TensorProto.INT64),
            helper.make_node("Gather", ["ten_zeros", "levels"], ["zeros"]),  # no level above 9 has one
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["sums", "zero"], ["logits"]),
        ]
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(10, np.float32), "ten_zeros"))
    engine = load_engine(artifact_of(model, metadata))
    images = np.zeros((3, 6, 6, 1), np.uint8)
    images[1, 2, 3] = 10
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        engine.run(images)
    assert engine.run(images[::2].copy()).shape == (2, 3)  # and goes on


@pytest.mark.parametrize(("axis", "images"), [(0, 2), (1, 1)], ids=["fewer rows", "fewer classes"])
def test_as_many_logits_must_come_out_as_images_go_in(
    metadata: Metadata, linear_model: LinearModel, axis: int, images: int
):
    model = linear_model(metadata)
    model.graph.node[-1].output[0] = "sums"
    model.graph.node.append(helper.make_node("ReduceMax", ["sums", "axis"], ["logits"], keepdims=1))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([axis]), "axis"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(EngineError, match=f"{images} images in"):
        load_engine(artifact_of(model, metadata)).run(noise(images))
