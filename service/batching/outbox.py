"""Responses that are ready, and those of one batch among them, which leave together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.policy import GATHERED_RESPONSES


class Outbox:
    """Writes each response as it comes; while a batch's are gathered, one right behind the other once many are there.

    A response that is made between two writes finds neither its code nor the kernel's warm, and each write wakes a
    client for one response, which a moment later sleeps again (docs/design.md, A request's way).
    """

    def __init__(self) -> None:
        self._ready: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._gathers = False

    def put(self, write: Callable[[], None], count: Callable[[], None]) -> None:
        """Have a response written, and then, when others that leave with it are written, too, counted.

        Neither may raise an error.
        """
        self._ready.append((write, count))
        if not self._gathers or len(self._ready) == GATHERED_RESPONSES:
            self._empty()

    @contextmanager
    def gather(self) -> Iterator[None]:
        """What is put in meanwhile leaves together at the end."""
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
            self._empty()

    def _empty(self) -> None:
        ready, self._ready = self._ready, []
        for write, _ in ready:
            write()
        for _, count in ready:
            count()
