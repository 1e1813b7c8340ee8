"""Images on their way to pixels: what is not wanted any more is forgotten, not decoded."""

import asyncio
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batching.decoding import Decoder
from tests.service.served import until

DEADLINE_S = 10.0


class Slow:
    """A preprocessor that waits in every image until it may go on."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.begins, self.may_go_on = threading.Event(), threading.Event()

    def memory_bytes(self, image: bytes) -> int:
        return len(image)

    def __call__(self, image: bytes) -> NDArray[np.uint8]:
        self.begun.append(image)
        self.begins.set()
        assert self.may_go_on.wait(DEADLINE_S)
        return np.frombuffer(image, np.uint8)


def decoded(decoder: Decoder, slow: Slow, image: bytes) -> asyncio.Future[Sequence[object]]:
    """What becomes of an image."""
    found: asyncio.Future[Sequence[object]] = asyncio.get_running_loop().create_future()
    decoder.decode(slow, [image], found.set_result)
    return found


def test_images_whose_request_has_ended_are_let_go_at_once_and_never_decoded() -> None:
    async def scene() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        slow, decoder = Slow(), Decoder(threads=1, memory_bytes=1 << 20)
        left: list[Sequence[object]] = []
        answers: asyncio.Future[Sequence[object]] = asyncio.get_running_loop().create_future()
        running, waiting, last = (bytes([n]) * 8 for n in range(3))
        held = sys.getrefcount(waiting)
        try:
            first = decoder.decode(slow, [running], left.append)
            second = decoder.decode(slow, [waiting, waiting], left.append)
            decoder.decode(slow, [last], answers.set_result)
            assert await asyncio.to_thread(slow.begins.wait, DEADLINE_S)
            assert sys.getrefcount(waiting) > held
            first.cancel()
            second.cancel()
            assert sys.getrefcount(waiting) == held  # although their turn is still to come
            slow.may_go_on.set()
            (pixels,) = await asyncio.wait_for(answers, DEADLINE_S)
        finally:
            slow.may_go_on.set()
            decoder.close()
        assert bytes(pixels) == last  # type: ignore[arg-type]
        assert left == failures == []
        assert slow.begun == [running, last]

    asyncio.run(scene())


def test_an_image_whose_request_ends_while_it_waits_for_memory_is_never_decoded() -> None:
    async def scene() -> None:
        slow, decoder = Slow(), Decoder(threads=2, memory_bytes=15)
        running, waiting, last = (bytes([n]) * 8 for n in range(3))
        try:
            first = decoded(decoder, slow, running)
            assert await asyncio.to_thread(slow.begins.wait, DEADLINE_S)
            second = decoder.decode(slow, [waiting], lambda _: None)
            await asyncio.to_thread(until, lambda: decoder._memory.waiting, "it to wait for memory")
            second.cancel()
            slow.may_go_on.set()
            await asyncio.wait_for(first, DEADLINE_S)
            await asyncio.wait_for(decoded(decoder, slow, last), DEADLINE_S)
            await asyncio.to_thread(until, lambda: not decoder.busy, "all memory to come back")
        finally:
            slow.may_go_on.set()
            decoder.close()
        assert slow.begun == [running, last]

    asyncio.run(scene())


def test_what_waits_for_a_decoder_or_for_memory_and_what_is_decoded_is_known() -> None:
    async def scene() -> None:
        slow, decoder = Slow(), Decoder(threads=2, memory_bytes=15)
        try:
            assert (decoder.waiting, decoder.busy, decoder.estimate.wait_s) == (0, 0, 0)
            first = decoded(decoder, slow, bytes(8))
            assert await asyncio.to_thread(slow.begins.wait, DEADLINE_S)
            second = decoder.decode(slow, [bytes(8)] * 3, lambda _: None)
            assert (decoder.waiting, decoder.busy) == (3, 1)
            all_s = decoder.estimate.wait_s
            second.cancel()
            assert (decoder.waiting, decoder.busy) == (0, 1)
            assert 0 < decoder.estimate.wait_s < all_s
            slow.may_go_on.set()
            await asyncio.wait_for(first, DEADLINE_S)
        finally:
            slow.may_go_on.set()
            decoder.close()
        assert decoder.waiting == 0
        assert decoder.estimate.wait_s == pytest.approx(0)

    asyncio.run(scene())
