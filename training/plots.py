"""Pictures of runs and experiments."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

_DPI = 120
"""Pixels an inch of a picture."""

_MOST_IN_MATRIX = 60
"""Classes up to which a confusion matrix has room for their names."""

_MOST_BARS = 40
"""Classes, and confusions, that are drawn as bars instead."""

_MOST_LEVEL = 6
"""Names along an axis up to which they have room side by side."""

_LONGEST_NAME, _LONGEST_TITLE = 32, 120
"""Characters of the name of a class or a line, and of a title."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which every kind of colour vision tells apart (https://jfly.uni-koeln.de/color/)."""

_OTHER_SCRIPTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "IPAexGothic",
    "IPAGothic",
    "NanumGothic",
    "Hiragino Sans",
    "Hiragino Sans GB",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
)
"""Fonts of Chinese, Japanese and Korean, of Linux, macOS and Windows, in the order in which they are asked for a glyph
that matplotlib's own lacks."""

_MARKERS = (".", "s", "^", "x", "D", "v")
"""Of points, so that a line is known without its colour; 42 lines differ in one or the other."""


def draw_curves(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Draw accuracy and loss over the epochs of a history, of training and, where measured, of validation."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(_plain(title, _LONGEST_TITLE))
    epochs = [row["epoch"] for row in history]
    for axes, quantity in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for name, label in ((quantity, "training"), (f"validation_{quantity}", "validation")):
            if all(name in row for row in history):
                axes.plot(epochs, [row[name] for row in history], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=quantity)
        _count_along(axes, epochs)
        if len(epochs) == 1:  # a point has no range of its own
            axes.set_ylim(0, 1 if quantity == "accuracy" else None)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _count_along(axes: Axes, numbers: Sequence[float]) -> None:
    """Whole numbers below the axes, also where there is only one."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if numbers:
        axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)


def draw_worst(classes: Mapping[str, float], confused: Mapping[str, float], title: str) -> Figure:
    """Draw bars of the least accurate classes and of the most frequent confusions, each in its order."""
    shown = dict(list(classes.items())[:_MOST_BARS]), dict(list(confused.items())[:_MOST_BARS])
    figure = Figure(figsize=(16, 2 + 0.25 * max(map(len, shown))), layout="constrained")
    figure.suptitle(_plain(title, _LONGEST_TITLE))
    labels = "accuracy, the lowest first", "images, the most frequent confusions first"
    for axes, bars, label, most in zip(figure.subplots(1, 2), shown, labels, (1, None), strict=True):
        axes.barh(range(len(bars)), list(bars.values()))
        axes.set_yticks(range(len(bars)), [_plain(name, 2 * _LONGEST_NAME) for name in bars], fontsize=8)
        axes.set(xlabel=label, xlim=(0, most))  # bars that are all 0 have no range of their own
        axes.xaxis.set_major_locator(MaxNLocator(integer=most is None, min_n_ticks=1))
        axes.invert_yaxis()
        axes.grid(alpha=0.3, axis="x")
    return figure


def has_matrix(labels: Sequence[str]) -> bool:
    """Whether a confusion matrix of these classes can be read; else see `draw_worst`."""
    return len(labels) <= _MOST_IN_MATRIX


def draw_confusion(confusion: Tensor, labels: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, counts [classes, classes] of true class by predicted class."""
    names = list(map(_plain, labels))
    side = 4 + 0.4 * len(names) + 0.08 * max(map(len, names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / confusion.sum(1, keepdim=True).clamp(min=1)  # a class without images is a row of zeros
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set(title=_plain(title, _LONGEST_TITLE), xlabel="predicted", ylabel="true")
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(ticks, names)
    for row, column in confusion.nonzero().tolist():
        colour = "white" if shares[row, column] > 0.5 else "black"
        count = int(confusion[row, column])
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


def draw_samples(samples: Mapping[str, Sequence[NDArray[np.uint8]]], title: str) -> Figure:
    """Draw a row of pictures [h, w, 3], all of one size, for each named class."""
    height, width, _ = next(picture.shape for row in samples.values() for picture in row)
    columns = max(map(len, samples.values()))
    sheet = np.full((len(samples) * height, columns * width, 3), 255, np.uint8)
    for row, pictures in enumerate(samples.values()):
        for column, picture in enumerate(pictures):
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    names = list(map(_plain, samples))
    size = 1 + 0.1 * max(map(len, names)) + 0.7 * columns, 1 + 0.7 * len(names)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.imshow(sheet)
    axes.set(title=_plain(title), xticks=[])
    axes.set_yticks([height * (row + 0.5) for row in range(len(names))], names)
    return figure


def _plain(text: str, longest: int = _LONGEST_NAME) -> str:
    """Text that is drawn as it is, and leaves room: matplotlib takes what is between dollar signs for a formula."""
    # Names that begin or end alike, as paths do, stay different.
    short = text if len(text) <= longest else f"{text[: longest // 2]}…{text[-longest // 2 + 1 :]}"
    return "".join(each if each.isprintable() else "?" for each in short).replace("$", r"\$")


@dataclass(frozen=True, slots=True)
class Line:
    """Values over `x`, a sequence for each repetition: their mean is drawn, with bars of one standard deviation.

    On a logarithmic axis both are of the logarithms: the geometric mean, and a factor up and down.
    """

    label: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with their lines; lines of one label share a colour, and the first of them is in the legend.

    With `names` the values of x are 0, 1, 2, ... and stand for these, which nothing joins.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    logarithmic: bool = False
    names: Sequence[str] = ()


def draw_panels(title: str, panels: Sequence[Panel]) -> Figure:
    """Draw panels side by side under a title."""
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    figure.suptitle(_plain(title, _LONGEST_TITLE))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.logarithmic:
            axes.set_yscale("log")
        _draw_lines(axes, panel.lines, logarithmic=panel.logarithmic, joined=not panel.names)
        _count_along(axes, [x for line in panel.lines for x in line.x])
        if panel.names:
            upright = len(panel.names) > _MOST_LEVEL
            axes.set_xticks(range(len(panel.names)), map(_plain, panel.names), rotation=90 if upright else 0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    return figure


def _draw_lines(axes: Axes, lines: Sequence[Line], *, logarithmic: bool, joined: bool) -> None:
    numbers: dict[str, int] = {}
    for line in lines:
        known = line.label in numbers
        number = numbers.setdefault(line.label, len(numbers))
        mean, bars = _summary(np.asarray(line.values, np.float64), logarithmic=logarithmic)
        axes.errorbar(
            line.x,
            mean,
            bars if len(line.values) > 1 else None,
            label=None if known else _in_legend(line.label),
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=("--" if line.dashed else "-") if joined else "none",
            linewidth=1,
            marker=_MARKERS[number % len(_MARKERS)],
            markersize=4,
            capsize=2,
        )


def _in_legend(label: str) -> str:
    """The label behind a blank where matplotlib would leave it out of the legend."""
    return " " * label.startswith("_") + _plain(label, 2 * _LONGEST_NAME)


def _summary(values: NDArray[np.float64], *, logarithmic: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mean of repetitions [n, points], and the lengths of the bars below and above it [2, points]."""
    scaled = np.log(values) if logarithmic else values
    mean, deviation = scaled.mean(0), scaled.std(0, ddof=min(1, len(values) - 1))
    marks = np.stack([mean - deviation, mean, mean + deviation])
    low, middle, high = np.exp(marks) if logarithmic else marks
    return middle, np.stack([middle - low, high - middle])


def draw_bars(title: str, label: str, bars: Mapping[str, float]) -> Figure:
    """Draw a horizontal bar for each named value, from the top."""
    figure = Figure(figsize=(9, 1 + 0.4 * len(bars)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(bars)), list(bars.values()))
    axes.set_yticks(range(len(bars)), [_plain(name, 2 * _LONGEST_NAME) for name in bars])
    axes.invert_yaxis()
    axes.set(title=_plain(title, _LONGEST_TITLE), xlabel=_plain(label))
    axes.grid(alpha=0.3, axis="x")
    return figure


def to_png(figure: Figure) -> bytes:
    """Return the picture as a PNG file."""
    there = set(fontManager.get_font_names())  # matplotlib warns of each that is not
    families = ["sans-serif", *(name for name in _OTHER_SCRIPTS if name in there)]
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that no font has: the picture has boxes there
        figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
