"""Slots: what is written into one is read from it, and from no other."""

import os

import numpy as np
import pytest

from service.ipc.slots import SlotPool


def test_untouched_slots_take_no_memory() -> None:
    pool = SlotPool(slots=1000, input_bytes=1 << 20, classes=10)
    pool.put(3, np.ones((4, 4, 1), np.uint8), 7)
    blocks = os.fstat(pool.memory.fd).st_blocks * 512
    assert 1000 << 20 < os.fstat(pool.memory.fd).st_size < 1001 << 20
    assert 0 < blocks < 1 << 16


def test_fields_of_a_slot_do_not_overlap() -> None:
    pool = SlotPool(slots=2, input_bytes=30, classes=3)
    pool.put(1, np.arange(30, dtype=np.uint8), 1 << 62)
    pool.statuses[1] = -1
    pool.probabilities[1], pool.indices[1], pool.logits[1] = 2.5, 7, -3.5
    assert pool.deadlines.tolist() == [0, 1 << 62]
    assert pool.statuses.tolist() == [0, -1]
    assert pool.probabilities[1].tolist() == [2.5] * 3
    assert pool.indices[1].tolist() == [7] * 3
    assert pool.logits[1].tolist() == [-3.5] * 3
    assert pool.pixels[1].tolist() == list(range(30))
    assert not pool.pixels[0].any()


def test_an_image_that_is_larger_than_a_slot_does_not_reach_the_next() -> None:
    pool = SlotPool(slots=2, input_bytes=12, classes=2)
    with pytest.raises(ValueError, match="13 bytes of pixels; a slot takes 12"):
        pool.put(0, np.full((1, 13, 1), 9, np.uint8), 7)
    assert not pool.pixels.any()
    assert pool.deadlines.tolist() == [0, 0]


def test_smaller_images_share_slots_with_larger_ones() -> None:
    pool = SlotPool(slots=3, input_bytes=12, classes=2)
    small, large = np.full((1, 2, 2), 5, np.uint8), np.full((2, 2, 3), 9, np.uint8)
    pool.put(0, large, 0)
    pool.put(0, small, 0)
    pool.put(2, small * 2, 0)
    batch = pool.images([2, 0], (1, 2, 2))
    assert batch.shape == (2, 1, 2, 2)
    assert [int(image.max()) for image in batch] == [10, 5]
