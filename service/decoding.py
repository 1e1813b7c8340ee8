"""Encoded images to pixels, beside the event loop: tiny ones at once, others on threads (Pillow releases the GIL)."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog
from numpy.typing import NDArray

from models.preprocess import ImageError, Preprocessor
from service.errors import InternalError, ServiceError, from_image_error

log = structlog.get_logger()

Pixels = NDArray[np.uint8]
OnDecoded = Callable[[Sequence[Pixels | ServiceError]], None]

_TINY_BYTES = 4096
_TINY_PIXELS = 64 * 64


def is_tiny(data: bytes) -> bool:
    """Whether decoding costs less than handing the image to a thread: a PNG that its header says is small."""
    if len(data) > _TINY_BYTES or data[12:16] != b"IHDR":
        return False
    return int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]) <= _TINY_PIXELS


class Decoder:
    """Decodes for one API process, on as many threads as it may use."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """Forget what has not begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def decode(self, preprocessor: Preprocessor, images: Sequence[bytes], on_done: OnDecoded) -> None:
        """Call `on_done` with the pixels of each image, or the error to answer with, in order."""
        if all(map(is_tiny, images)):
            on_done([_decode(preprocessor, image) for image in images])
            return
        calls = [self._loop.run_in_executor(self._pool, _decode, preprocessor, image) for image in images]
        asyncio.gather(*calls).add_done_callback(lambda all_done: on_done(all_done.result()))


def _decode(preprocessor: Preprocessor, image: bytes) -> Pixels | ServiceError:
    try:
        return preprocessor(image)
    except ImageError as error:
        return from_image_error(error)
    except Exception as error:
        log.exception("decoding failed", bytes=len(image))
        return InternalError(str(error))
