"""What a run shows on the terminal while it trains."""

from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from training.loop.progress import Observer, Progress
from training.loop.run import Run


class ProgressBar(Observer):
    """A bar over all the steps of a run, with the figures of the epoch so far and the time left; a line per epoch."""

    def __init__(self, console: Console, run: Run) -> None:
        self._epoch_steps, epochs = run.epoch_steps, run.recipe.epochs
        self._bars = Bars(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  accuracy {task.fields[accuracy]:.2%}"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TimeRemainingColumn(),
            console=console,
        )
        progress = run.progress
        self._is_finished = progress.epoch >= epochs
        self._task = self._bars.add_task(
            "",
            total=epochs * self._epoch_steps,
            completed=progress.epoch * self._epoch_steps + progress.step,
            epoch=min(progress.epoch + 1, epochs),
            loss=0.0,
            accuracy=0.0,
            speed=0.0,
        )

    def __enter__(self) -> Self:
        if not self._is_finished:  # what is there would have no figures
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def step_done(self, progress: Progress, /) -> None:
        """Show how far the run is."""
        self._bars.update(
            self._task,
            completed=progress.epoch * self._epoch_steps + progress.step,
            epoch=progress.epoch + 1,
            loss=progress.loss / progress.images,
            accuracy=progress.correct / progress.images,
            speed=progress.images / progress.seconds,
        )

    def epoch_done(self, figures: Mapping[str, int | float], /) -> None:
        """Print the figures of an epoch above the bar."""
        line = f"epoch {figures['epoch']:>3}  loss {figures['loss']:.4f}  accuracy {figures['accuracy']:.2%}"
        if "validation_loss" in figures:
            line += f"  validation loss {figures['validation_loss']:.4f}"
            line += f"  accuracy [bold]{figures['validation_accuracy']:.2%}[/]"
        if "averaged" in figures:
            line += f" of {'averaged' if figures['averaged'] else 'raw'} weights"
        line += f"  {figures['images_per_second']:,.0f} images/s"
        self._bars.console.print(line, highlight=False, soft_wrap=True)
