"""The memory of all decoders: what does not fit yet waits for its turn."""

import threading

from service.batching.decode_memory import DecodeMemory
from tests.service.served import until

DEADLINE_S = 10.0


def test_a_large_image_gets_its_memory_before_small_ones_that_came_later() -> None:
    """There is always room for a small one: one after the other they would take what the large one waits for."""
    memory, order = DecodeMemory(10), list[int]()

    def take(size: int) -> None:
        with memory.taken(size):
            order.append(size)

    threads = [threading.Thread(target=take, args=(size,), daemon=True) for size in (10, 4, 5)]
    with memory.taken(6):
        for waiting, thread in enumerate(threads, 1):
            thread.start()
            until(lambda waiting=waiting: len(memory.waiting) == waiting, "it to wait")  # type: ignore[misc]
    for thread in threads:
        thread.join(DEADLINE_S)
    assert order[0] == 10
    assert sorted(order) == [4, 5, 10]
