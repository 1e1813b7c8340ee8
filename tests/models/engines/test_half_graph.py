"""A graph in fp16, which ONNX Runtime's CPU provider computes too: against the graph in fp32."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from models.artifact.artifact import Artifact
from models.engines import golden
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.half_graph import to_fp16
from models.engines.loader import load_engine
from tests.networks import random_pictures

FP16 = Backend("onnxruntime", "fp16", channels_last=True)


@pytest.mark.parametrize("network", ["digit_network", "colour_network"])
def test_it_answers_as_the_graph_in_fp32_within_its_tolerance(network: str, request: pytest.FixtureRequest):
    artifact: Artifact = request.getfixturevalue(network)
    engine = load_engine(artifact, FP16)
    golden.verify(artifact, engine)
    images = random_pictures(artifact, 5)
    expected, logits = load_engine(artifact).run(images), engine.run(images)
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - expected).max() < artifact.metadata.tolerance["fp16"] * np.abs(expected).max()


def test_weights_are_halved_but_for_the_normalisation(digit_network: Artifact):
    model = onnx.load_from_string(to_fp16(digit_network.model))
    onnx.checker.check_model(model)
    before = onnx.load_from_string(digit_network.model).graph
    assert (model.graph.input, model.graph.output) == (before.input, before.output)
    in_fp32 = {each.name for each in model.graph.initializer if each.data_type == TensorProto.FLOAT}
    first = next(place for place, node in enumerate(before.node) if node.op_type == "Conv")
    assert in_fp32 == {name for node in before.node[:first] for name in node.input[1:]}
    assert len(model.SerializeToString()) < 0.6 * len(digit_network.model)


def test_bytes_that_are_no_graph_are_an_engine_error(digit_network: Artifact):
    with pytest.raises(EngineError, match=r"cannot make this graph one in fp16: .*choose another precision"):
        load_engine(replace(digit_network, model=digit_network.model[:-20]), FP16)


def test_nodes_without_names_are_halved_too(digit_network: Artifact):
    model = onnx.load_from_string(digit_network.model)
    for node in model.graph.node:
        node.name = ""
    half = to_fp16(model.SerializeToString())
    assert len(half) < 0.6 * len(digit_network.model)
