"""What the pictures show, read from the axes before they become pixels."""

from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import get_data_path
from matplotlib.font_manager import fontManager
from PIL import Image

from training.plots import (
    Line,
    Panel,
    draw_bars,
    draw_confusion,
    draw_curves,
    draw_panels,
    draw_samples,
    draw_worst,
    has_matrix,
    to_png,
)


def _rows(*accuracies, validated=True):
    rows = [{"epoch": n, "accuracy": value, "loss": 1 - value} for n, value in enumerate(accuracies, 1)]
    return [row | ({"validation_accuracy": 0.9, "validation_loss": 0.2} if validated else {}) for row in rows]


def _drawn(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_accuracy_is_left_and_loss_right_of_training_and_of_what_was_held_back():
    figure = draw_curves(_rows(0.25, 0.75), "resnet20 on photos")
    accuracy, loss = figure.axes
    assert figure.get_suptitle() == "resnet20 on photos"
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes] == [
        ("epoch", "accuracy"),
        ("epoch", "loss"),
    ]
    assert _drawn(accuracy) == {"training": [[1, 0.25], [2, 0.75]], "validation": [[1, 0.9], [2, 0.9]]}
    assert _drawn(loss) == {"training": [[1, 0.75], [2, 0.25]], "validation": [[1, 0.2], [2, 0.2]]}


def test_a_run_that_held_back_nothing_has_one_line_each():
    figure = draw_curves(_rows(0.5, 0.9, validated=False), "run")
    assert [list(_drawn(axes)) for axes in figure.axes] == [["training"], ["training"]]


@pytest.mark.parametrize("history", [[], _rows(0.5), _rows(*np.linspace(0, 1, 200))])
def test_any_number_of_epochs_is_drawn(history):
    for axes in draw_curves(history, "run").axes:
        assert [len(points) for points in _drawn(axes).values()] == [len(history)] * 2


def test_a_cell_is_as_dark_as_its_share_of_the_true_class_and_tells_its_count():
    counts = torch.tensor([[3, 1, 0], [0, 0, 0], [0, 2, 6]])
    (axes,) = draw_confusion(counts, ["cat", "dog", "owl"], "pets").axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("pets", "predicted", "true")
    np.testing.assert_allclose(axes.get_images()[0].get_array(), [[0.75, 0.25, 0], [0, 0, 0], [0, 0.25, 0.75]])
    told = {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts}
    assert told == {(0, 0): ("3", "white"), (1, 0): ("1", "black"), (1, 2): ("2", "black"), (2, 2): ("6", "white")}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "owl"]


@pytest.mark.parametrize("classes", [2, 30, 60])
def test_each_class_has_its_name_and_each_cell_its_number(classes):
    names = [f"species {index}" for index in range(classes)]
    assert has_matrix(names)
    (axes,) = draw_confusion(torch.eye(classes, dtype=torch.int64), names, "run").axes
    assert len(axes.texts) == classes
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in ticks] == names


def test_of_a_thousand_classes_the_worst_have_their_names():
    names = [f"species {index}" for index in range(1000)]
    assert not has_matrix(names)
    accuracies = {name: index / 1000 for index, name in enumerate(names)}
    figure = draw_worst(accuracies, {"cat, for dog": 7, "dog, for cat": 3}, "run")
    figure.canvas.draw()
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == names[:40]
    assert [bar.get_width() for bar in left.patches] == [index / 1000 for index in range(40)]
    assert [label.get_text() for label in right.get_yticklabels()] == ["cat, for dog", "dog, for cat"]
    assert left.yaxis_inverted()
    assert Image.open(BytesIO(to_png(figure))).width < 4000


def test_accuracies_reach_from_0_to_1_and_confusions_are_counted_also_when_all_is_wrong():
    left, right = draw_worst({"cat": 0.0, "dog": 0.0}, {"cat, for dog": 1, "dog, for cat": 2}, "run").axes
    assert left.get_xlim() == (0, 1)
    assert [float(tick) for tick in _ticks(right)] == [0, 1, 2]


def _ticks(axes):
    """The numbers that can be seen below the axes."""
    axes.figure.canvas.draw()
    low, high = axes.get_xlim()
    return [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_are_whole_numbers_also_of_one(epochs):
    wanted = [str(number) for number in range(1, epochs + 1)]
    rows = _rows(*[0.5] * epochs)
    line = Line("a", list(range(1, epochs + 1)), [[0.5] * epochs])
    for figure in (draw_curves(rows, "run"), draw_panels("", [Panel("", "epoch", "error", [line])])):
        for axes in figure.axes:
            assert _ticks(axes) == wanted


def _bar(panel):
    """The middle of the first line's first point, and the ends of its bar."""
    (axes,) = draw_panels("", [panel]).axes
    container = axes.containers[0]
    (middle,) = container.lines[0].get_ydata()[:1]
    (_, low), (_, high) = container.lines[2][0].get_segments()[0]
    return low, middle, high


def test_repetitions_are_drawn_as_mean_and_standard_deviation():
    low, middle, high = _bar(Panel("", "x", "y", [Line("a", [1], [[1.0], [3.0]])]))
    assert (low, middle, high) == pytest.approx((2 - 2**0.5, 2, 2 + 2**0.5))


def test_on_a_logarithmic_axis_the_mean_is_geometric_and_the_bar_a_factor():
    low, middle, high = _bar(Panel("", "x", "y", [Line("a", [1], [[0.1], [10.0]])], logarithmic=True))
    assert middle == pytest.approx(1)
    assert high == pytest.approx(1 / low) == pytest.approx(10**2**0.5)


def test_lines_of_one_label_share_a_colour_and_one_place_in_the_legend():
    lines = [Line("a", [1, 2], [[1.0, 2.0]]), Line("b", [1, 2], [[3.0, 4.0]]), Line("a", [1, 2], [[5.0, 6.0]], True)]
    (axes,) = draw_panels("both", [Panel("test", "epoch", "error", lines)]).axes
    first, other, second = axes.get_lines()
    assert first.get_color() == second.get_color() != other.get_color()
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_points_that_have_names_are_told_by_them_and_not_joined():
    panel = Panel("", "branch", "error", [Line("a", [0, 1, 2], [[1.0, 2.0, 3.0]])], names=("1×1", "$5$", "none"))
    (axes,) = draw_panels("", [panel]).axes
    (line,) = axes.get_lines()
    assert line.get_linestyle() == "None"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1×1", r"\$5\$", "none"]


@pytest.mark.parametrize("count", [5, 27])
def test_names_along_an_axis_lie_over_none_of_the_others(count):
    names = [f"layer1.{number}" for number in range(count)]
    panel = Panel("", "removed", "error", [Line("a", range(count), [[1.0] * count])], names=names)
    figure = draw_panels("", [panel])
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_many_lines_differ_in_colour_or_marker():
    lines = [Line(f"run {number}", [1, 2], [[number, 2.0]]) for number in range(42)]
    (axes,) = draw_panels("runs", [Panel("", "epoch", "error", lines)]).axes
    assert len({(line.get_color(), line.get_marker()) for line in axes.get_lines()}) == 42


@pytest.mark.parametrize(
    "name", ["$x_$", r"$\bad$", "cost in $", "$5$ and $10$", "caf\udce9", "\a", "_run", "数字", "n" * 300]
)
def test_any_name_can_be_drawn_and_is_drawn_as_it_is(name):
    """Formulas of matplotlib's, names that are no text, those that it hides, and those that leave no room."""
    rows, samples = _rows(0.5, 0.9), {name: [np.zeros((8, 8, 3), np.uint8)]}
    panels = draw_panels(name, [Panel("", "epoch", "error", [Line(name, [1], [[0.5]])])])
    figures = [
        draw_curves(rows, name),
        draw_confusion(torch.eye(2, dtype=torch.int64), ["other", name], name),
        draw_worst({name: 0.5}, {name: 3}, name),
        draw_samples(samples, name),
        draw_bars(name, name, {name: 1.0}),
        panels,
    ]
    for figure in figures:
        Image.open(BytesIO(to_png(figure))).verify()
    (drawn,) = (text.get_text() for text in panels.axes[0].get_legend().get_texts())
    if name.isprintable() and len(name) < 30:
        assert drawn.strip().replace(r"\$", "$") == name


def test_long_names_stay_different():
    names = [f"runs/{'of the same beginning ' * 9}{number}/run" for number in (1, 2)]
    names += [f"{number}{' and the same end' * 9}" for number in (1, 2)]
    lines = [Line(name, [1], [[0.5]]) for name in names]
    (axes,) = draw_panels("", [Panel("", "epoch", "error", lines)]).axes
    assert len({text.get_text() for text in axes.get_legend().get_texts()}) == len(names)
    (axes,) = draw_confusion(torch.eye(4, dtype=torch.int64), names, "").axes
    assert len({label.get_text() for label in axes.get_yticklabels()}) == len(names)


def test_bars_are_as_long_as_their_values_from_the_top():
    (axes,) = draw_bars("left", "%", {"first": 10.0, "second": 40.0}).axes
    assert [bar.get_width() for bar in axes.patches] == [10, 40]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis_inverted()


def test_the_png_holds_the_picture():
    """A diagonal of seven dark cells: their colour covers less than a seventh of the picture."""
    png = to_png(draw_confusion(torch.eye(7, dtype=torch.int64), list("abcdefg"), "run"))
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"), np.int16)
    dark = (np.abs(pixels - (8, 48, 107)).sum(-1) < 30).mean()  # the darkest of Blues
    assert 0.05 < dark < 1 / 7


def test_what_the_usual_font_lacks_is_drawn_by_one_for_other_scripts(monkeypatch):
    """By a font that comes with matplotlib, under the name of one that would have to be installed."""
    there = [font for font in fontManager.ttflist if Path(font.fname).is_relative_to(get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", there)
    lacking = ["\u2312", "\u2315"]
    boxes = {to_png(draw_bars(character, "%", {character: 1.0})) for character in lacking}
    assert len(boxes) == 1
    other = next(replace(font, name="Noto Sans CJK JP") for font in there if font.name == "STIXGeneral")
    monkeypatch.setattr(fontManager, "ttflist", [*there, other])
    drawn = {to_png(draw_bars(character, "%", {character: 1.0})) for character in lacking}
    assert len(drawn | boxes) == 3
