"""Which layers of a graph compute in 8 bits, and that every CPU computes the same."""

import resource
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import nn

from models.artifact.artifact import Artifact
from models.networks.pixel_net import PixelNet
from tests.documents import ROOT
from tests.training.release.int8_arithmetic import added, convolutions, sums
from training.data.dataset import Normalization
from training.data.preprocessing_spec import preprocessing_spec
from training.errors import QuantizeError
from training.options import CalibrationChoice
from training.release.int8_graph import FIRST, LAST, CalibratedGraph, calibrate
from training.release.onnx_export import to_onnx

NETWORK = ROOT / "models" / "zoo" / "cifar10-resnet20" / "1" / "model.onnx"
METHODS: tuple[CalibrationChoice, ...] = ("min-max", "percentile")


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    """Pictures for the digit network."""
    return np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)


@pytest.fixture(scope="module")
def calibrated(digit_network: Artifact, pixels: NDArray[np.uint8]) -> CalibratedGraph:
    return calibrate(digit_network.model, [pixels])


def to_int8(model: bytes, images: NDArray[np.uint8]) -> bytes:
    return calibrate(model, [images]).in_8_bits()


def run(model: bytes, images: NDArray[np.uint8], *, exact: bool = False) -> NDArray[np.float32]:
    """The logits; `exact` asks CPUs without VNNI for instructions whose sums do not saturate."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    logits: NDArray[np.float32] = ort.InferenceSession(model, options).run(None, {"image": images})[0]
    return logits


@pytest.mark.parametrize(
    ("in_fp32", "in_8_bits"), [((), [True, True]), ((FIRST,), [False, True]), ((FIRST, LAST), [False, False])]
)
def test_the_ends_of_the_network_can_stay_in_fp32(
    in_fp32: tuple[str, ...], in_8_bits: list[bool], calibrated: CalibratedGraph
):
    graph = onnx.load_from_string(calibrated.in_8_bits(in_fp32)).graph
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert [layer.input[1] in makers for layer in (layers[0], layers[-1])] == in_8_bits
    assert all(layer.input[1] in makers for layer in layers[1:-1])


def test_graphs_of_others_keep_their_operator_set_and_need_no_gemm():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8)
    graph = calibrate(_layer_with_dead_channels(opset=17), [images])
    made = onnx.load_from_string(graph.in_8_bits())
    assert [(each.domain, each.version) for each in made.opset_import] == [("", 17)]
    kept = onnx.load_from_string(graph.in_8_bits((FIRST, LAST)))
    assert "DequantizeLinear" in {node.op_type for node in made.graph.node}
    assert next(node.input[1] for node in kept.graph.node if node.op_type == "Conv") == "weights"


def test_a_graph_of_an_old_operator_set_is_refused():
    with pytest.raises(QuantizeError, match="of operator set 11, scales for each channel need 13: export it again"):
        to_int8(_layer_with_dead_channels(opset=11), np.zeros((1, 4, 4, 1), np.uint8))


def test_what_onnx_runtime_cannot_quantise_is_told():
    model = onnx.load_from_string(_layer_with_dead_channels())
    model.graph.node[3].domain = "unheard.of"
    model.opset_import.add(domain="unheard.of", version=1)
    with pytest.raises(QuantizeError, match="ONNX Runtime cannot quantise this graph"):
        to_int8(model.SerializeToString(), np.zeros((1, 4, 4, 1), np.uint8))


def test_a_full_disk_is_not_the_graphs_fault():
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            to_int8(_layer_with_dead_channels(), np.zeros((1, 4, 4, 1), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def test_a_disk_that_is_too_small_for_what_the_tools_write_is_told(tmp_path, require):
    """Not all of them notice that it is full: a graph that was cut off was called unfit."""
    namespace = [require("unshare"), "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    program = (
        "import sys, numpy as np\nfrom training.release.int8_graph import calibrate\n"
        "calibrate(open(sys.argv[1], 'rb').read(), [np.zeros((1, 32, 32, 3), np.uint8)]).in_8_bits()"
    )
    script = 'mount -t tmpfs -o size=$1 tmpfs "$2"; TMPDIR=$2 exec "$3" -c "$4" "$5"'
    size = str(9 * NETWORK.stat().st_size // 4)
    command = [*namespace, "sh", "-c", script, "sh", size, tmp_path, sys.executable, program, NETWORK]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.stderr.splitlines()[-1].startswith("OSError: [Errno 28] No space left on device"), ended.stderr


def test_a_graph_without_a_convolution_is_refused():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    spec = preprocessing_spec((3, 2, 2), 2, Normalization((0.5,) * 3, (0.5,) * 3))
    with pytest.raises(QuantizeError, match="no convolution"):
        to_int8(to_onnx(PixelNet(network, spec), spec.shape), np.zeros((1, 2, 2, 3), np.uint8))


def test_the_sums_of_8_bits_saturate_where_there_is_no_vnni_and_those_of_7_bits_nowhere():
    brightest = np.full((1, 64), 255, np.uint8)
    for weight, same in ((127, False), (-128, False), (64, True), (-64, True)):
        rows = np.full((1, 64), weight, np.int8)
        exact, saturating = (added(brightest, rows, saturating=each) for each in (False, True))
        assert exact.item() == 64 * 255 * weight
        assert (saturating.item() == exact.item()) == same


def test_each_layer_computes_the_same_sums_in_both_arithmetics(calibrated: CalibratedGraph, pixels: NDArray[np.uint8]):
    layers = convolutions(calibrated.in_8_bits(), pixels[:1])
    assert len(layers) == 6
    for layer in layers:
        assert np.abs(layer[2].astype(int)).max() == 64
        exact = sums(layer, saturating=False)
        assert np.array_equal(sums(layer, saturating=True), exact)
        assert exact.any()


def test_both_kinds_of_instructions_of_this_cpu_give_the_same_logits(
    calibrated: CalibratedGraph, pixels: NDArray[np.uint8]
):
    model = calibrated.in_8_bits()
    assert np.array_equal(run(model, pixels), run(model, pixels, exact=True))


OTHER_CPU = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
pixels = numpy.load(sys.argv[1])
logits = [onnxruntime.InferenceSession(path, options).run(None, {"image": pixels})[0] for path in sys.argv[2:]]
numpy.save(sys.argv[1], numpy.stack(logits))
"""


def test_a_cpu_without_vnni_gives_the_same_logits_of_7_bits_and_others_of_8(
    calibrated: CalibratedGraph, pixels: NDArray[np.uint8], require: Callable[[str], str], tmp_path: Path
):
    """The real kernels for AVX2, on a processor that QEMU plays; `eight` is ONNX Runtime's default."""
    qemu, seven, eight = require("qemu-x86_64"), tmp_path / "seven.onnx", tmp_path / "eight.onnx"
    seven.write_bytes(calibrated.in_8_bits())
    quantize_static(calibrated.model, eight, _Once(pixels), per_channel=True, weight_type=QuantType.QInt8)
    np.save(tmp_path / "pixels.npy", pixels)
    words = [qemu, "-cpu", "Haswell", sys.executable, "-c", OTHER_CPU, tmp_path / "pixels.npy", seven, eight]
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    there = np.load(tmp_path / "pixels.npy")
    assert np.array_equal(there[0], run(seven.read_bytes(), pixels))
    assert not np.array_equal(there[1], run(eight.read_bytes(), pixels, exact=True))


class _Once(CalibrationDataReader):
    """All pixels in one batch."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.left = [{"image": pixels}]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return self.left.pop() if self.left else None


def _level(graph: CalibratedGraph, tensor: str) -> float:
    low, high = (np.asarray(each).item() for each in graph.ranges[tensor].range_value)
    return float(high - low)


def test_ranges_by_percentile_leave_out_what_is_rare(digit_network: Artifact):
    grey = np.random.default_rng(0).integers(110, 140, (64, 28, 28, 1), np.uint8)
    grey[0, 0, 0] = 0  # one pixel of fifty thousand
    whole, usual = (calibrate(digit_network.model, [grey], method) for method in METHODS)
    first = next(node.input[0] for node in whole.model.graph.node if node.op_type == "Conv")
    assert _level(usual, first) / _level(whole, first) == pytest.approx(29 / 139, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_one_batch_is_in_memory_at_once_and_all_of_them_count(
    method: CalibrationChoice, digit_network: Artifact, pixels: NDArray[np.uint8]
):
    alive: list[weakref.ref[NDArray[np.uint8]]] = []

    def batches() -> Iterator[NDArray[np.uint8]]:
        for image in pixels:
            batch = image[None].copy()
            assert sum(each() is not None for each in alive) <= 1
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    single, together = (calibrate(digit_network.model, each, method) for each in (batches(), [pixels]))
    assert len(alive) == len(pixels)
    for name in together.ranges.keys():  # noqa: SIM118 - no mapping
        assert _level(single, name) == pytest.approx(_level(together, name), rel=0.02)


def _layer_with_dead_channels(opset: int = 20) -> bytes:
    """Pixels 0 to 51, a convolution to a living channel and some with weights of 0 or nearly, and their means."""
    weights = np.zeros((4, 1, 1, 1), np.float32)
    weights[:, 0, 0, 0] = 0.02, 0.0, 1e-12, 1e-41
    bias = np.array([0.0, 0.09, 0.5, 0.3], np.float32)
    made = helper.make_node
    nodes = [
        made("Cast", ["image"], ["cast"], name="cast", to=TensorProto.FLOAT),
        made("Transpose", ["cast"], ["turned"], name="turn", perm=[0, 3, 1, 2]),
        made("Mul", ["turned", "fifth"], ["input"], name="scale"),
        made("Conv", ["input", "weights", "bias"], ["features"], name="conv"),
        made("Relu", ["features"], ["active"], name="relu"),
        made("GlobalAveragePool", ["active"], ["means"], name="pool"),
        made("Flatten", ["means"], ["logits"], name="flatten"),
    ]
    initializers = [
        numpy_helper.from_array(array, name)
        for name, array in (("fifth", np.float32(0.2)), ("weights", weights), ("bias", bias))
    ]
    images = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 1])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "dead", [images], [logits], initializers)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])
    data: bytes = model.SerializeToString()
    return data


def test_channels_that_are_nearly_dead_keep_their_bias():
    model = _layer_with_dead_channels()
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 1), np.uint8)
    wanted, found = run(model, images), run(to_int8(model, images), images)
    level = 51 * 0.02 / 255
    np.testing.assert_allclose(found, wanted, atol=2 * level)
