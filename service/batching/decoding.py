"""Encoded images to pixels, on threads: Pillow releases the interpreter's lock."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from models.images.decoder import Preprocessor
from models.images.errors import ImageError
from models.machine.memory import trim_memory
from service.batching.decode_estimate import DecodeEstimate
from service.batching.decode_memory import DecodeMemory
from service.batching.thread_pool import started_pool
from service.errors import InternalError, ServiceError, from_image_error
from service.policy import TRIMMED_BYTES

log = structlog.get_logger()

Found = TypeVar("Found")
Pixels = NDArray[np.uint8]
NOTHING = np.empty(0, np.uint8)
OnDecoded = Callable[[Sequence[Pixels | ServiceError]], None]


def decode(preprocessor: Callable[[bytes], Pixels], image: bytes) -> Pixels | ServiceError:
    """The image's pixels, or the error to answer with."""
    try:
        return preprocessor(image)
    except Exception as error:
        return decoding_error(error, image)


def decoding_error(error: Exception, image: bytes) -> ServiceError:
    """What an image is answered with whose decoding raised this; a fault of ours goes to the log."""
    if isinstance(error, ImageError):
        return from_image_error(error)
    log.error("decoding failed", bytes=len(image), exc_info=error)
    return InternalError(str(error))


class Decoder:
    """Decodes for one API process, on as many threads and in as much memory as it may use."""

    def __init__(self, threads: int, memory_bytes: int) -> None:
        self._memory = DecodeMemory(memory_bytes)
        self.estimate = DecodeEstimate(threads, self._memory)
        self._pool = started_pool(threads, "decode")
        self._open: dict[Decoding, _Asked] = {}
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Images that wait for a decoder, or for the memory that it takes."""
        return sum([len(decoding.waiting) for decoding in self._open])

    @property
    def busy(self) -> int:
        """Images that are being decoded."""
        return self._memory.holders

    def close(self) -> None:
        """Forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, call: Callable[[], Found], on_done: Callable[[asyncio.Future[Found]], None]) -> asyncio.Future[Found]:
        """Run a call on one of the threads, then call `on_done` with what became of it, also if it was cancelled."""
        waiting = [call]
        running = self._loop.run_in_executor(self._pool, _run_one, waiting)
        # What the call holds is free as soon as it is cancelled, as `Decoding.cancel` has it for images.
        running.add_done_callback(lambda _: waiting.clear())
        running.add_done_callback(on_done)
        return running

    def decode(self, preprocessor: Preprocessor, images: Sequence[bytes], on_done: OnDecoded) -> "Decoding":
        """Call `on_done` with the pixels of each image, or the error to answer with, in order, unless cancelled."""
        decoding = Decoding(preprocessor, images, self._memory, self._loop, self._on_end)
        self._open[decoding] = _Asked(images, [self.estimate.add(image) for image in images], on_done)
        decoding.begin(self._pool)
        return decoding

    def _on_end(self, decoding: "Decoding") -> None:
        asked = self._open.pop(decoding)
        for cost_ns in asked.costs_ns:
            self.estimate.remove(cost_ns)
        for i, ns in list(decoding.took_ns.items()):  # a cancelled one may still run on a thread
            self.estimate.observe(asked.images[i], ns)
        if not decoding.cancelled:
            asked.on_done(decoding.pixels)


class _Asked(NamedTuple):
    """What is decoded for a request, and what it will cost."""

    images: Sequence[bytes]
    costs_ns: list[float]
    on_done: OnDecoded


class Decoding:
    """The images of one request on the decoder's threads, until all of them are decoded or it is cancelled.

    Attributes:
        waiting: those that no thread has begun, by their place.
        pixels: what became of each, in order.
        took_ns: how long each took, by its place.
        cancelled: whether it was, before all were decoded.

    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        images: Sequence[bytes],
        memory: DecodeMemory,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[["Decoding"], None],
    ) -> None:
        self._preprocessor, self._memory, self._loop, self._on_end = preprocessor, memory, loop, on_end
        self._calls: list[Future[None]] = []
        self.waiting = dict(enumerate(images))
        self.pixels: list[Pixels | ServiceError] = [NOTHING] * len(images)
        self._missing = len(images)
        self.took_ns: dict[int, int] = {}
        self.cancelled = False

    def begin(self, pool: Executor) -> None:
        """Have the threads decode all images."""
        self._calls = [pool.submit(self._decode, i) for i in range(len(self.pixels))]

    def cancel(self) -> None:
        """Let go of the images at once: the pool keeps its calls until their turn would have come."""
        if self._missing and not self.cancelled:
            self.cancelled = True
            self.waiting.clear()
            for call in self._calls:
                call.cancel()
            self._on_end(self)

    def _decode(self, i: int) -> None:
        """Decode one image, on a thread."""
        pixels = decode(partial(self._within_memory, i), self.waiting.get(i, b""))
        self._loop.call_soon_threadsafe(self._take, i, pixels)

    def _within_memory(self, i: int, image: bytes) -> Pixels:
        size = self._preprocessor.memory_bytes(image)
        with self._memory.taken(size):
            if self.waiting.pop(i, None) is None:  # its request has ended meanwhile
                return NOTHING
            began_ns = time.monotonic_ns()
            pixels = self._preprocessor(image)
            self.took_ns[i] = time.monotonic_ns() - began_ns
        if size > TRIMMED_BYTES:
            trim_memory()
        return pixels

    def _take(self, i: int, pixels: Pixels | ServiceError) -> None:
        if self.cancelled:
            return
        self.pixels[i] = pixels
        self._missing -= 1
        if not self._missing:
            self._on_end(self)


def _run_one(waiting: list[Callable[[], Found]]) -> Found:
    return waiting.pop()()  # empty after a cancellation; the IndexError is dropped with the cancelled future
