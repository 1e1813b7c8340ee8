"""Which batches pay, by what they take."""

import pytest

from service.batch_costs import best_batch_size, quick_models
from service.policy import EXPRESS_RATIO

MS = 1_000_000
SIZES = (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize(
    ("latency_ms", "best"),
    [
        ([1, 1, 1, 1, 1, 1, 1], 64),  # a GPU that is not full yet
        ([10, 20, 40, 80, 160, 320, 640], 16),  # a CPU that an image keeps busy: all that is quick
        ([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4], 64),
        ([130, 260, 520, 1040, 2080, 4160, 8320], 1),  # slow: two would have to be cheaper than one
        ([60, 112, 210, 410, 700, 1300, 2500], 4),  # 56 and 52.5 ms an image, 51.3 is hardly less
        ([200, 290, 420, 1300, 2400, 4800, 9600], 4),  # 200, 145 and 105 ms an image: that pays, however slow
        ([4, 5, 6, 14, 15, 16, 17], 4),  # what comes after a size that does not pay is not looked at
        ([10, 20.4, 41.6, 86, 168, 320, 640], 4),  # dearer and dearer, by little each
        ([1], 1),
    ],
    ids=[
        "constant",
        "linear",
        "linear and quick",
        "slow",
        "slow but cheaper",
        "far cheaper",
        "a step",
        "creeping",
        "one size",
    ],
)
def test_batches_grow_as_long_as_they_are_quick_or_make_an_image_cheaper(latency_ms: list[float], best: int) -> None:
    assert best_batch_size({size: int(ms * MS) for size, ms in zip(SIZES, latency_ms, strict=False)}) == best


def test_models_are_quick_beside_one_whose_images_take_several_times_as_long() -> None:
    assert quick_models({3: 1.0, 5: EXPRESS_RATIO, 7: 0.9 * EXPRESS_RATIO, 8: 0.1}) == {3, 8}
    assert quick_models({3: 1.0, 5: 0.9 * EXPRESS_RATIO}) == set()
    assert quick_models({3: 1.0}) == quick_models({}) == set()
