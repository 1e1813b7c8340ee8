"""What `ps` and `top` call a process: those of one server have one command line."""

import ctypes

_PR_SET_NAME = 15  # prctl(2)


def name_process(name: str) -> None:
    """Give this process a name, of at most 15 characters."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())
