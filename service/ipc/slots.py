"""Slots: places in shared memory, each for one image's pixels and for what a worker found in it.

Each API process owns a range of the slots. It writes an image's pixels into a slot and sends the slot's number to a
worker, which writes the results into the same slot. A slot carries no lock: only the process that holds its number
writes to it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.ipc.shared_memory import SharedMemory

# What a worker says of one slot.
OK, FAILED, EXPIRED = 0, 1, 2


class SlotPool:
    """All slots of the server.

    A slot holds, in this order: the deadline (int64, ns of the monotonic clock), the status (int32), the probabilities
    in falling order (float32 [classes]), their indices (int32 [classes]), the logits if they are asked for (float32
    [classes]), and the pixels (uint8 [input_bytes]). Slots that were never written to take no memory.
    """

    def __init__(self, slots: int, input_bytes: int, classes: int) -> None:
        self.slots, self.input_bytes, self.classes = slots, input_bytes, classes
        self._head_bytes = head = 16 + 12 * classes
        self._stride = -(-(head + input_bytes) // 64) * 64  # whole cache lines
        self.memory = SharedMemory(slots * self._stride)
        rows, c = self.memory.array("u1", (slots, self._stride)), classes
        self.deadlines = rows[:, 0:8].view("i8")[:, 0]
        self.statuses = rows[:, 8:12].view("i4")[:, 0]
        self.probabilities = rows[:, 16 : 16 + 4 * c].view("f4")
        self.indices = rows[:, 16 + 4 * c : 16 + 8 * c].view("i4")
        self.logits = rows[:, 16 + 8 * c : head].view("f4")
        self.pixels = rows[:, head : head + input_bytes]
        self._words = memoryview(self.memory.map).cast("q")  # written faster than an array's elements

    def put(self, slot: int, pixels: NDArray[np.uint8], deadline_ns: int) -> None:
        """Write one image (uint8 [h, w, c], contiguous) and its deadline into a slot."""
        if pixels.nbytes > self.input_bytes:
            raise ValueError(f"{pixels.nbytes} bytes of pixels; a slot takes {self.input_bytes}")
        start = slot * self._stride
        self._words[start // 8] = deadline_ns
        start += self._head_bytes
        self.memory.map[start : start + pixels.nbytes] = pixels.data

    def images(self, slots: Sequence[int], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
        """A copy of several slots' pixels as one batch, uint8 [n, h, w, c]."""
        size = shape[0] * shape[1] * shape[2]
        batch: NDArray[np.uint8] = self.pixels[np.asarray(slots), :size]
        return batch.reshape(len(slots), *shape)
