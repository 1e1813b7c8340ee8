"""Failures because the system has no more of something now: they are no fault of the program's."""

import errno

_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EFBIG)
_NO_THREAD = "can't start new thread"  # CPython's text, of a RuntimeError


def is_shortage(error: BaseException) -> bool:
    """Whether the system was short of descriptors, memory, processes, threads or room in files."""
    if isinstance(error, OSError):
        return error.errno in _ERRORS
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD)


def in_words(error: BaseException) -> str:
    """What an error says, or else what it is: a MemoryError often says nothing."""
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
