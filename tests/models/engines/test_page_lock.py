import gc
from typing import Any

import numpy as np

from models.engines.page_lock import _lock, page_locked


class Cuda:
    """A CUDA runtime that keeps what it is asked."""

    def __init__(self, error: int = 0) -> None:
        self.asked: list[tuple[str, int]] = []
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def ask(address: Any = None, *_: object) -> int:
            self.asked.append((name, address.value if address else 0))
            return self._error

        return ask


def test_it_is_memory_also_where_there_is_no_cuda():
    memory = page_locked((3, 2, 2, 1))
    assert (memory.shape, memory.dtype, memory.any()) == ((3, 2, 2, 1), np.uint8, np.False_)
    memory[:] = 7
    assert memory.sum() == 7 * 12


def test_it_is_unlocked_before_it_is_free():
    """The next memory may lie at its address, which CUDA would take for locked already."""
    memory, cuda = np.zeros(100, np.uint8), Cuda()
    address = memory.ctypes.data
    _lock(memory, cuda)  # type: ignore[arg-type]
    assert cuda.asked == [("cudaHostRegister", address)]
    del memory
    gc.collect()
    assert cuda.asked[1:] == [("cudaHostUnregister", address)]


def test_an_error_is_not_left_for_others():
    memory, cuda = np.zeros(100, np.uint8), Cuda(error=712)
    _lock(memory, cuda)  # type: ignore[arg-type]
    del memory
    gc.collect()
    assert [name for name, _ in cuda.asked] == ["cudaHostRegister", "cudaGetLastError"]
