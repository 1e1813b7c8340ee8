from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from training.plots import Line, Panel, draw_confusion, draw_curves, draw_panels


def _rows(*accuracies, validated=True):
    rows = [{"epoch": n, "accuracy": value, "loss": 1 - value} for n, value in enumerate(accuracies, 1)]
    return [row | ({"validation_accuracy": 0.9, "validation_loss": 0.2} if validated else {}) for row in rows]


def _pixels(png):
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.int16)


def _share(pixels, colour):
    return (np.abs(pixels - colour).sum(-1) < 30).mean()


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)  # matplotlib's first two lines


def test_curves_show_training_and_where_measured_validation():
    both, alone = (_pixels(draw_curves(_rows(0.5, 0.9, validated=flag), "run")) for flag in (True, False))
    assert _share(both, BLUE) > 0
    assert _share(both, ORANGE) > 0
    assert _share(alone, ORANGE) == 0


def test_accuracy_is_left_and_loss_right():
    """A rising accuracy: the blue line begins low in the left picture, high in the right one."""
    pixels = _pixels(draw_curves(_rows(0.0, 1.0, validated=False), "run"))
    halves = np.array_split(pixels[150:400], 2, axis=1)  # between title with legend and the axis labels
    for half, rises in zip(halves, (True, False), strict=True):
        rows, columns = (np.abs(half - BLUE).sum(-1) < 30).nonzero()
        left, right = rows[columns < columns.mean()].mean(), rows[columns > columns.mean()].mean()
        assert (left > right) == rises


@pytest.mark.parametrize("history", [[], _rows(0.5), _rows(*np.linspace(0, 1, 200))])
def test_any_number_of_epochs_is_drawn(history):
    _pixels(draw_curves(history, "run"))


@pytest.mark.parametrize("classes", [2, 10, 20, 21, 100])
def test_right_answers_are_a_dark_diagonal(classes):
    counts = torch.eye(classes, dtype=torch.int64) * 7
    counts[0] = 0  # a class without images
    pixels = _pixels(draw_confusion(counts, [f"class {n}" for n in range(classes)], "run"))
    assert _share(pixels, (8, 48, 107)) > 0.1 / classes  # the darkest of Blues
    swapped = _pixels(draw_confusion(counts.flip(1), [f"class {n}" for n in range(classes)], "run"))
    assert pixels.shape == swapped.shape
    assert not np.array_equal(pixels, swapped)


def _extent(values, logarithmic):
    """Rows of the picture that the middle of a line through one level, with its bar, covers."""
    line = Line("x", [1, 2, 3], [[value] * 3 for value in values])
    frame = Line("frame", [1, 2], [[0.01, 100.0]])
    pixels = _pixels(draw_panels("", [Panel("", "x", "y", [line, frame], logarithmic=logarithmic)]))
    rows = (np.abs(pixels[50:420, 280:370] - BLUE).sum(-1) < 120).any(1).nonzero()[0]
    return rows.min(), rows.max()


def test_bars_on_a_logarithmic_axis_are_as_long_below_as_above():
    """0.1 and 10: around 1, not around 5.05, where the bar below would leave the axis."""
    low, high = _extent([0.1, 10.0], logarithmic=True)
    line = _extent([1.0], logarithmic=True)
    assert abs((low + high) - sum(line)) <= 4
    assert high - low > 50
