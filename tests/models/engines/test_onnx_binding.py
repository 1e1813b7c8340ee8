import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.artifact.metadata import Metadata
from models.engines.onnx_binding import BoundSession

LinearModel = Callable[[Metadata], onnx.ModelProto]

LARGEST = 6


def pictures(n: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 6, 1), dtype=np.uint8)


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
    return BoundSession(session, "cpu", 0, np.zeros((LARGEST, 6, 6, 1), np.uint8), 3)


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
