"""A released model small enough to compute by hand."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.artifact.metadata import FORMAT_VERSION, METADATA_KEY, Metadata
from models.engines.golden import TOLERANCE
from models.images.preprocessing import Preprocessing


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing.usual((6, 6, 1), 6, (0.25,), (0.5,), draft=False)


@pytest.fixture
def metadata(preprocessing: Preprocessing) -> Metadata:
    return Metadata(
        format_version=FORMAT_VERSION,
        architecture="linear",
        arguments={"shortcut": "B"},
        labels=("cat", "dog", "owl"),
        preprocessing=preprocessing,
        precision="fp32",
        tolerance=dict(TOLERANCE),
        metrics={"dataset": "animals", "split": "test", "images": 100, "accuracy": 0.75},
        recipe={"epochs": 3, "schedule": {"peak": 0.1}},
        tools={"torch": "2.0"},
        created="2026-01-02T03:04:05Z",
        golden=(),
    )


@pytest.fixture
def weight() -> NDArray[np.float32]:
    """What `linear_model` multiplies the 36 pixels by."""
    return np.random.default_rng(1).normal(size=(36, 3)).astype(np.float32)


@pytest.fixture
def linear_model(weight: NDArray[np.float32]) -> Callable[[Metadata], onnx.ModelProto]:
    """Make a model whose logits are pixels @ weight."""

    def make(metadata: Metadata) -> onnx.ModelProto:
        graph = helper.make_graph(
            [
                helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Flatten", ["floats"], ["rows"]),
                helper.make_node("MatMul", ["rows", "weight"], ["logits"]),
            ],
            "linear",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 6, 6, 1])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
            [onnx.numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
        helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
        return model

    return make
