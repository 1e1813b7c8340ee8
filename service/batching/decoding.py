"""Encoded images to pixels, on threads: Pillow releases the interpreter's lock."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

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
OnDecoded = Callable[[Sequence[Pixels | ServiceError]], None]
Decoding = asyncio.Future[list[Pixels | ServiceError]]


def decode(preprocessor: Callable[[bytes], Pixels], image: bytes) -> Pixels | ServiceError:
    """The image's pixels, or the error to answer with."""
    try:
        return preprocessor(image)
    except ImageError as error:
        return from_image_error(error)
    except Exception as error:
        log.exception("decoding failed", bytes=len(image))
        return InternalError(str(error))


class Decoder:
    """Decodes for one API process, on as many threads and in as much memory as it may use."""

    def __init__(self, threads: int, memory_bytes: int) -> None:
        self._memory = DecodeMemory(memory_bytes)
        self.estimate = DecodeEstimate(threads, self._memory)
        self._pool = started_pool(threads, "decode")
        self._jobs: set[_Job] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Images that wait for a decoder, or for the memory that it takes."""
        return sum([len(job.waiting) for job in self._jobs])

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
        # What the call holds is free as soon as it is cancelled, as `_on_end` has it for images.
        running.add_done_callback(lambda _: waiting.clear())
        running.add_done_callback(on_done)
        return running

    def decode(self, preprocessor: Preprocessor, images: Sequence[bytes], on_done: OnDecoded) -> Decoding:
        """Call `on_done` with the pixels of each image, or the error to answer with, in order, unless cancelled."""
        job = _Job(preprocessor, dict(enumerate(images)), self._memory)
        self._jobs.add(job)
        costs_ns = [self.estimate.add(image) for image in images]
        decoding = asyncio.gather(*[self._loop.run_in_executor(self._pool, job.decode, i) for i in range(len(images))])
        decoding.add_done_callback(partial(self._on_end, job, images, costs_ns, on_done))
        return decoding

    def _on_end(
        self, job: "_Job", images: Sequence[bytes], costs_ns: list[float], on_done: OnDecoded, decoding: Decoding
    ) -> None:
        self._jobs.discard(job)
        job.waiting.clear()  # the pool keeps cancelled calls until their turn would have come: without the images
        for cost_ns in costs_ns:
            self.estimate.remove(cost_ns)
        for i, ns in list(job.took_ns.items()):  # a cancelled one may still run on a thread
            self.estimate.observe(images[i], ns)
        if not decoding.exception():  # the only one is that it was cancelled
            on_done(decoding.result())


@dataclass(eq=False, slots=True)
class _Job:
    """The images of one request on the decoder's threads; `took_ns`: how long each took."""

    preprocessor: Preprocessor
    waiting: dict[int, bytes]
    memory: DecodeMemory
    took_ns: dict[int, int] = field(default_factory=dict)

    def decode(self, i: int) -> Pixels | ServiceError:
        """One image's pixels or error; nothing of worth if the request was cancelled meanwhile."""
        return decode(partial(self._within_memory, i), self.waiting.get(i, b""))

    def _within_memory(self, i: int, image: bytes) -> Pixels:
        size = self.preprocessor.memory_bytes(image)
        with self.memory.taken(size):
            if self.waiting.pop(i, None) is None:  # its request has ended meanwhile
                return np.empty(0, np.uint8)
            began_ns = time.monotonic_ns()
            pixels = self.preprocessor(image)
            self.took_ns[i] = time.monotonic_ns() - began_ns
        if size > TRIMMED_BYTES:
            trim_memory()
        return pixels


def _run_one(waiting: list[Callable[[], Found]]) -> Found:
    return waiting.pop()()  # empty after a cancellation; the IndexError is dropped with the cancelled future
