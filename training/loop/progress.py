"""How far a run is, and who is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from training.loop.scoring import Score, standard_error

Figures = dict[str, int | float]


@dataclass(slots=True)
class Progress:
    """Finished epochs, steps into the current one, sums over the images of those steps, and figures of past epochs."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    history: list[Figures] = field(default_factory=list)

    def add(self, images: int, loss: float, correct: int, seconds: float) -> None:
        """Count a step on so many images with this mean loss, in this time."""
        self.step += 1
        self.images += images
        self.loss += loss * images
        self.correct += correct
        self.seconds += seconds

    def next_epoch(self, score: Score | None, **beside: int | float) -> "Progress":
        """Return the start of the next epoch, after the figures of this one and of the images held back, if any."""
        figures: Figures = {
            "epoch": self.epoch + 1,
            "loss": self.loss / self.images,
            "accuracy": self.correct / self.images,
            "images_per_second": self.images / self.seconds,
            "seconds": self.seconds,
        }
        if score is not None:
            figures |= {"validation_loss": score.loss, "validation_accuracy": score.accuracy, **beside}
        return Progress(epoch=self.epoch + 1, history=[*self.history, figures])

    def best(self, held_back: int) -> Figures | None:
        """Return the latest epoch whose accuracy on so many images held back was hardly below the highest until then.

        That is within one standard error: few images cannot tell such epochs apart, and the later one has learned more.
        """
        best, highest = None, 0.0
        for row in self.history:
            accuracy = row.get("validation_accuracy", -1.0)
            highest = max(highest, accuracy)
            if accuracy >= highest - standard_error(highest, held_back):
                best = row
        return best


class Observer:
    """Is told how a run goes; this one does nothing with it."""

    def step_done(self, progress: Progress, /) -> None:
        """A step was taken."""

    def epoch_done(self, figures: Mapping[str, int | float], /) -> None:
        """An epoch was finished, scored and saved."""
