"""Failures because the system has no more of something now: they pass, and are no fault of the program's."""

import errno

_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)


def is_shortage(error: BaseException) -> bool:
    """Whether the system was short of descriptors, memory or processes."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _ERRORS)


def in_words(error: BaseException) -> str:
    """What an error says, or else what it is: a MemoryError often says nothing."""
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
