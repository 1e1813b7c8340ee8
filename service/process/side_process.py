"""A process beside this one for what may crash or hang; it tells through a pipe what came of it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from service.process.parent_death import die_with_parent

_MOST_OPENED = 16  # descriptors for one process; each is the lowest that is free


@contextmanager
def side_process(
    start: Literal["fork", "spawn"], task: Callable[..., None], *args: object
) -> Iterator[tuple[BaseProcess, Connection]]:
    """Call `task` there, with the end of a pipe to write to before `args`; the process, and the end to read from.

    It is killed when the block ends, and when this process does, however that happens.
    """
    context = get_context("fork") if start == "fork" else get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with reader:
        with writer:
            process = context.Process(target=_run, args=(os.getpid(), task, writer, *args), daemon=True)
            process.start()
        try:
            yield process, reader
        finally:
            process.kill()
            process.join()


@contextmanager
def no_leak() -> Iterator[None]:
    """Close what a failed fork leaves open: multiprocessing forgets the pipes that it had made for the child."""
    listed = list(Path("/proc/self/fd").iterdir())
    before = {int(path.name) for path in listed if path.is_symlink()}  # all but the one that the list was read from
    try:
        yield
    except OSError:
        for fd in set(range(max(before) + _MOST_OPENED)) - before:  # there may be none left to read a list from
            with suppress(OSError):
                os.close(fd)
        raise


def _run(parent_pid: int, task: Callable[..., None], writer: Connection, *args: object) -> None:
    die_with_parent(parent_pid)
    task(writer, *args)
