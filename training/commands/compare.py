"""`resnet-train compare`: the curves of several runs in one picture."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.errors import CompareError
from training.loop.checkpoint import write_atomically
from training.loop.run import METRICS
from training.options import CompareOptions
from training.plots import Line, Panel, draw_panels, to_png

History = list[dict[str, float]]


def compare(options: CompareOptions) -> Path:
    """Draw accuracy and loss over epochs of the runs' folders into a PNG; CompareError names a folder that is no run.

    Solid lines are of the images held back, dashed ones of training.
    """
    figure = draw_panels("solid: validation; dashed: training", panels(options.runs))
    write_atomically(options.output, to_png(figure))
    return options.output


def panels(runs: Sequence[Path]) -> list[Panel]:
    """Return the panels of the picture, accuracy and loss; CompareError."""
    histories = dict(zip(_labels(runs), map(read_history, runs), strict=True))
    return [_panel(quantity, histories) for quantity in ("accuracy", "loss")]


def read_history(run: Path) -> History:
    """Return the rows of a run's metrics, one for each epoch."""
    path = run / METRICS
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    except OSError as error:
        raise CompareError(
            f"{run} is no run's folder: {METRICS} in it cannot be read ({error.strerror}); give folders that "
            "`resnet-train fit` has written to, by --output or under runs/"
        ) from error
    except ValueError as error:
        raise CompareError(
            f"{path} does not hold a run's figures, which are JSON in each line: {error}; leave this run out"
        ) from error
    if not rows or not all(map(_is_epoch, rows)):
        raise CompareError(
            f"{path} does not hold a run's figures: each line needs epoch, accuracy and loss, which are numbers; leave "
            "this run out"
        )
    return rows


def _is_epoch(row: object) -> bool:
    """Whether a line of the figures has what is drawn."""
    drawn = {"epoch", "accuracy", "loss"}
    return (
        isinstance(row, dict)
        and drawn <= row.keys()
        and all(
            isinstance(value, int | float) and (math.isfinite(value) or name not in drawn)
            for name, value in row.items()  # a loss on the images held back may be infinite before the last epoch
            if name.removeprefix("validation_") in drawn
        )
    )


def _labels(runs: Sequence[Path]) -> list[str]:
    """Folders' names, or their paths where names are the same."""
    names = [run.resolve().name for run in runs]
    counts = Counter(names)
    return [name if counts[name] == 1 else str(run) for name, run in zip(names, runs, strict=True)]


def _panel(quantity: str, histories: dict[str, History]) -> Panel:
    validation, training = f"validation_{quantity}", quantity
    lines = [
        Line(
            label,
            [row["epoch"] for row in history if name in row],
            [[row[name] for row in history if name in row]],
            dashed,
        )
        for label, history in histories.items()
        for name, dashed in ((validation, False), (training, True))
        if any(name in row for row in history)
    ]
    return Panel("", "epoch", quantity, lines)
