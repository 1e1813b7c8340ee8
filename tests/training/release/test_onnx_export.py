from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from models.images.preprocessing import Preprocessing
from models.networks import registry
from models.networks.pixel_net import PixelNet
from tests.networks import MEAN, STD, preprocessing_for
from training.release.onnx_export import to_onnx


def exported(name: str) -> tuple[torch.nn.Module, Preprocessing, onnx.ModelProto]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = registry.build(name).eval()
    preprocessing = preprocessing_for(name)
    data = to_onnx(PixelNet(network, preprocessing), preprocessing.shape)
    return network, preprocessing, onnx.load_from_string(data)


def tensors_of(model: onnx.ModelProto) -> Iterator[onnx.ValueInfoProto]:
    yield from (*model.graph.input, *model.graph.output, *model.graph.value_info)


@pytest.mark.parametrize(
    "name", ["mnist-residual", "mnist-residual-bn", "mnist-inception", "resnet20", "plain20", "resnet18"]
)
def test_a_network_becomes_a_graph(name: str):
    network, preprocessing, model = exported(name)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (10, [("", 20)])

    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Shape", "Range", "Gather"}  # a GPU session without a CPU to fall back on refuses them
    assert "BatchNormalization" not in operators  # folded into the convolutions

    images = np.random.default_rng(0).integers(0, 256, (5, *preprocessing.shape), dtype=np.uint8)
    channels = preprocessing.channels
    mean, std = (torch.tensor(values[:channels]).view(-1, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        expected = network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        (logits,) = session.run(["logits"], {"image": images[:batch]})
        np.testing.assert_allclose(logits, expected[:batch], rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_graph_means_to_the_standard_what_it_means_to_us():
    network, preprocessing, model = exported("mnist-residual")
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)
    with torch.inference_mode():
        expected = PixelNet(network, preprocessing)(torch.from_numpy(images)).numpy()
    (logits,) = ReferenceEvaluator(model).run(["logits"], {"image": images})
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def test_nothing_tells_of_the_machine_that_exported():
    _, _, model = exported("mnist-residual")
    assert not model.metadata_props
    for part in (*model.graph.node, *model.graph.initializer, *tensors_of(model)):
        assert not part.doc_string
        assert not part.metadata_props
    data = model.SerializeToString()
    assert str(Path(__file__).parents[3]).encode() not in data
    assert b".py" not in data


def test_batch_is_the_one_dimension_that_is_free():
    _, _, model = exported("mnist-inception")
    shapes = {
        value.name: [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"image": ["batch", 28, 28, 1], "logits": ["batch", 10]}
