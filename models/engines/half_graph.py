"""A graph in half precision: what ONNX Runtime, unlike PyTorch, does not make of one in fp32 by itself."""

from models.engines.engine import EngineError


def to_fp16(model: bytes) -> bytes:
    """The graph in fp16 behind its normalisation, pixels and logits as they were; EngineError if it cannot be made."""
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel
    except ImportError as error:
        raise EngineError(
            f"fp16 needs {error.name}: pip install 'resnet-serve[gpu]', or choose another precision"
        ) from error
    try:
        graph = onnx.load_from_string(model)
        for place, node in enumerate(graph.graph.node):
            node.name = node.name or f"node {place}"  # without one all others without are taken for it
        kinds = [node.op_type for node in graph.graph.node]
        # Mean and deviation stay in fp32: they are applied to up to 255, which fp16 has in steps of an eighth.
        first = kinds.index("Conv") if "Conv" in kinds else 0
        half = convert_float_to_float16(
            graph, keep_io_types=True, node_block_list=[node.name for node in graph.graph.node[:first]]
        )
        OnnxModel(half).topological_sort()
    except Exception as error:  # it checks little of what it is given
        raise EngineError(
            f"ONNX Runtime cannot make this graph one in fp16: {error}; choose another precision"
        ) from error
    del half.metadata_props[:]
    data: bytes = half.SerializeToString()
    return data
