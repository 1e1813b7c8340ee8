import numpy as np

from models.engines.page_lock import page_locked


def test_it_is_memory_also_where_there_is_no_cuda():
    memory = page_locked((3, 2, 2, 1))
    assert (memory.shape, memory.dtype, memory.any()) == ((3, 2, 2, 1), np.uint8, np.False_)
    memory[:] = 7
    assert memory.sum() == 7 * 12
