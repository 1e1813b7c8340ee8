import numpy as np
import pytest

from models.engines.engine import EngineError
from models.engines.padding import pad


@pytest.mark.parametrize(
    ("n", "largest", "size"),
    [(1, 8, 1), (2, 8, 2), (3, 8, 4), (4, 8, 4), (5, 8, 8), (8, 8, 8), (5, 6, 6), (6, 6, 6), (1, 1, 1), (33, 48, 48)],
)
def test_a_batch_is_filled_up_to_a_power_of_two_or_the_largest(n: int, largest: int, size: int):
    memory = np.full((largest, 2, 3), 9, np.uint8)  # of the batch before
    images = np.arange(n * 6, dtype=np.uint8).reshape(n, 2, 3)
    batch = pad(images, memory)
    np.testing.assert_array_equal(batch, np.concatenate([images, np.zeros((size - n, 2, 3), np.uint8)]))
    assert np.shares_memory(batch, memory)


def test_more_than_the_largest_is_an_engine_error():
    with pytest.raises(EngineError, match="9 images in a batch; the engine is prepared for 8"):
        pad(np.zeros((9, 1), np.uint8), np.zeros((8, 1), np.uint8))
