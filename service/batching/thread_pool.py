"""Threads that all run from the beginning."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor


def started_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """A pool whose threads all run, OSError if that is not possible: later is too late to find out."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    together = threading.Barrier(threads)
    try:
        for _ in range(threads):
            pool.submit(together.wait)
    except RuntimeError as error:
        together.abort()
        raise OSError(
            errno.EAGAIN,
            f"threads for {name} ({threads}) cannot be started: allow more processes, or fewer --decode-threads",
        ) from error
    return pool
