"""The least time of a network, against the reference counts and by hand."""

import pytest

from benchmarks.gpu.roofline import LayerCost, layer_costs, line


@pytest.mark.parametrize(
    ("name", "multiply_adds", "weights"),
    [("resnet18", 1.814e9, 11_684_712 - 4_800), ("resnet50", 4.089e9, 25_502_912)],
)
def test_operations_are_twice_torchvisions_multiply_adds(name: str, multiply_adds: float, weights: int) -> None:
    costs = layer_costs(name)
    assert sum(cost.operations for cost in costs) == pytest.approx(2 * multiply_adds, rel=1e-3)
    assert sum(cost.weights for cost in costs) == pytest.approx(weights, rel=1e-3)


def test_a_layer_takes_the_longer_of_arithmetic_and_memory() -> None:
    bound_by_arithmetic, bound_by_memory = LayerCost(100.0, 1, 0), LayerCost(1.0, 10, 5)
    assert line([bound_by_arithmetic], "fp32", 2, flops=100.0, bytes_per_s=1e9) == pytest.approx(1.0)
    # 2 images of 10 values and 5 weights, of 2 bytes each
    assert line([bound_by_memory], "bf16", 2, flops=1e9, bytes_per_s=100.0) == pytest.approx(2 / 0.5)


def test_half_the_bytes_are_twice_the_images_where_memory_bounds() -> None:
    costs = [LayerCost(1.0, 1000, 0)]
    in_16, in_32 = (line(costs, precision, 8, 1e15, 1e9) for precision in ("fp16", "tf32"))
    assert in_16 == pytest.approx(2 * in_32)
