"""A network as an ONNX graph from uint8 pixels [batch, height, width, channels] to logits [batch, classes]."""

import onnx
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from models.artifact.metadata import METADATA_KEY, Metadata
from models.networks.pixel_net import PixelNet

OPSET = 20
"""Operator set of ONNX that graphs are written in."""

IR_VERSION = 10
"""Version of ONNX's file format: the one that came with that operator set."""


def to_onnx(network: PixelNet, shape: tuple[int, int, int]) -> bytes:
    """Export for images of `shape` [height, width, channels]: one checked file, without metadata."""
    example = torch.zeros((2, *shape), dtype=torch.uint8)  # a batch of 1 would be taken for a constant
    program = torch.onnx.export(
        network.eval(),
        (example,),
        dynamo=True,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # node metadata names this machine's source files
    model = program.model_proto
    model.ir_version = IR_VERSION
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.ClearField("metadata_props")
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def with_metadata(model: bytes, metadata: Metadata) -> bytes:
    """The model with this metadata in place of any it had."""
    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=metadata.to_json())
    data: bytes = proto.SerializeToString()
    return data
