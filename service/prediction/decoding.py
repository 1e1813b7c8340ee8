"""Encoded images to pixels: tiny ones on the event loop, others on threads (Pillow releases the GIL)."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from models.images.preprocessor import ImageError, Preprocessor
from service.errors import InternalError, ServiceError, from_image_error
from service.policy import TINY_BYTES, TINY_PIXELS

log = structlog.get_logger()

Found = TypeVar("Found")
Pixels = NDArray[np.uint8]
OnDecoded = Callable[[Sequence[Pixels | ServiceError]], None]
Decoding = asyncio.Future[list[Pixels | ServiceError]]

_PNG_HEADER = struct.Struct(">12x4sII")  # of the first chunk: its name, the picture's width and height


def is_tiny(data: bytes) -> bool:
    """Whether decoding costs less than handing the image to a thread: a PNG that its header says is small."""
    if not _PNG_HEADER.size <= len(data) <= TINY_BYTES:
        return False
    chunk, width, height = _PNG_HEADER.unpack_from(data)
    return bool(chunk == b"IHDR" and width * height <= TINY_PIXELS)


def decode(preprocessor: Preprocessor, image: bytes) -> Pixels | ServiceError:
    """The image's pixels, or the error to answer with."""
    try:
        return preprocessor(image)
    except ImageError as error:
        return from_image_error(error)
    except Exception as error:
        log.exception("decoding failed", bytes=len(image))
        return InternalError(str(error))


class Decoder:
    """Decodes for one API process, on as many threads as it may use."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, call: Callable[[], Found], on_done: Callable[[asyncio.Future[Found]], None]) -> asyncio.Future[Found]:
        """Run a call on one of the threads, then call `on_done` with what became of it, also if it was cancelled."""
        waiting = [call]
        running = self._loop.run_in_executor(self._pool, _run_one, waiting)
        running.add_done_callback(
            lambda _: waiting.clear()
        )  # as for images: what it holds is free when it is cancelled
        running.add_done_callback(on_done)
        return running

    def decode(self, preprocessor: Preprocessor, images: Sequence[bytes], on_done: OnDecoded) -> Decoding:
        """Call `on_done` with the pixels of each image, or the error to answer with, in order, unless cancelled."""
        waiting = dict(enumerate(images))
        call = partial(_decode_one, preprocessor, waiting)
        decoding = asyncio.gather(*[self._loop.run_in_executor(self._pool, call, i) for i in range(len(images))])
        decoding.add_done_callback(partial(_on_end, waiting, on_done))
        return decoding


def _on_end(waiting: dict[int, bytes], on_done: OnDecoded, decoding: Decoding) -> None:
    waiting.clear()  # the pool keeps cancelled calls until their turn would have come: without the images
    if not decoding.exception():  # the only one is that it was cancelled
        on_done(decoding.result())


def _run_one(waiting: list[Callable[[], Found]]) -> Found:
    return waiting.pop()()  # without it, it has just been cancelled, and the error goes nowhere


def _decode_one(preprocessor: Preprocessor, waiting: dict[int, bytes], i: int) -> Pixels | ServiceError:
    return decode(preprocessor, waiting.pop(i, b""))  # without it, it has just been cancelled
