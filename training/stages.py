"""What a command is at, told while it works."""

from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from training.console import print_text

_T = TypeVar("_T")


class Stages:
    """Tells a console the stages of a command: on a terminal each with a bar and its time, elsewhere a line each.

    Without a console nothing is told. A context manager.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(quiet=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._bars.stop()

    def begin(self, what: str, total: int = 1) -> None:
        """Begin the next stage, of so many steps, and end the one before."""
        self._end()
        self._task = self._bars.add_task(what, total=total)
        if not self._console.is_terminal:
            print_text(self._console, what)

    def track(
        self, items: Iterable[_T], what: str, total: int, steps: Callable[[_T], int] = lambda _: 1
    ) -> Iterator[_T]:
        """Begin a stage and yield its items, each of so many of its steps."""
        self.begin(what, total)
        task = self._task
        assert task is not None
        for item in items:
            yield item
            self._bars.advance(task, steps(item))

    def _end(self) -> None:
        if self._task is not None:
            total = self._bars.tasks[self._bars.task_ids.index(self._task)].total
            self._bars.update(self._task, completed=total)
            self._bars.stop_task(self._task)
            self._task = None
