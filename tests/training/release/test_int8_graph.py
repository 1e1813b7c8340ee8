"""Which layers of a graph compute in 8 bits."""

import numpy as np
import onnx
import pytest
from torch import nn

from models.artifact.artifact import Artifact
from models.networks.pixel_net import PixelNet
from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.errors import QuantizeError
from training.release.int8_graph import FIRST, LAST, to_int8
from training.release.onnx_export import to_onnx


@pytest.mark.parametrize(
    ("in_fp32", "in_8_bits"), [((), [True, True]), ((FIRST,), [False, True]), ((FIRST, LAST), [False, False])]
)
def test_the_ends_of_the_network_can_stay_in_fp32(
    in_fp32: tuple[str, ...], in_8_bits: list[bool], digit_network: Artifact
):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)
    graph = onnx.load_from_string(to_int8(digit_network.model, pixels, in_fp32)).graph
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert [layer.input[1] in makers for layer in (layers[0], layers[-1])] == in_8_bits
    assert all(layer.input[1] in makers for layer in layers[1:-1])


def test_a_graph_without_a_convolution_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    spec = preprocessing_spec((3, 2, 2), 2, Normalization((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(QuantizeError, match="no convolution"):
        to_int8(to_onnx(PixelNet(network, spec), spec.shape), np.zeros((1, 2, 2, 3), np.uint8))
