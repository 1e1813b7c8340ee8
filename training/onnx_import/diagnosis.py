"""Which single step of a picture's way explains that two answers differ: each is changed alone, the others stay."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.onnx_import.origin import Axes, Origin, Stage

EQUAL = 0.01
"""Distance of two ways to the same numbers: decoders and filters of different libraries round otherwise."""

TRIED = 16
"""Pictures on which steps are tried that take long."""

_CLEARLY = 0.25
"""Share of the distance that may be left where a change explains it."""

_AS_GOOD = 0.002
"""Distance by which a change that is tried earlier may be worse."""

_NORMALISATIONS = {
    "levels from 0 to 1": ((0.0,), (1.0,)),
    "levels from -1 to 1": ((0.5,), (0.5,)),
    "levels from 0 to 255": ((0.0,), (1 / 255,)),
    "ImageNet's mean and deviation": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP's mean and deviation": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "CIFAR-10's mean and deviation": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    "ImageNet's mean in levels, and no deviation": ((0.485, 0.456, 0.406), (1 / 255,)),
}
"""Means and deviations that training scripts use, as fractions of 255."""


_AXES: dict[Axes, str] = {
    "bytes as nchw": "reads the bytes of [height, width, channels] as if they were [channels, height, width]",
    "numbers as nchw": "reads the numbers of [height, width, channels] as if they were [channels, height, width]",
    "numbers as nhwc": "reads the numbers of [channels, height, width] as if they were [height, width, channels]",
    "sides swapped": "has height and width swapped",
    "nchw": "has its axes as [n, channels, height, width]",
    "nhwc": "has its axes as [n, height, width, channels]",
}
"""Where a picture's axes may be by mistake."""


class Change(NamedTuple):
    """A step taken otherwise, in words that follow `the origin ...`, and what to do about it."""

    stage: Stage
    words: str
    remedy: str
    origin: Origin


def distance(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Root mean square of the difference, as a fraction of the deviation of what is expected; both [n, ...]."""
    if found.shape != expected.shape:
        return float("inf")
    spread = float(np.std(expected - expected.mean(0), dtype=np.float64)) or float(np.std(expected)) or 1.0
    return float(np.sqrt(np.mean((found.astype(np.float64) - expected) ** 2))) / spread


def explain(
    origin: Origin,
    expected: NDArray[np.float32],
    produce: Callable[[Origin], NDArray[np.float32]],
    changes: Iterable[Change],
) -> Change | None:
    """The first of the changes after which `produce` gives what is expected, or nearly; None if there is none."""
    before = distance(produce(origin), expected)
    left = [(distance(produce(change.origin), expected), change) for change in changes]
    least = min(rest for rest, _ in left)
    if least > max(EQUAL, _CLEARLY * before) or least >= before:
        return None
    return next(change for rest, change in left if rest <= least + _AS_GOOD)


def pixel_changes(origin: Origin) -> Iterator[Change]:
    """Every step up to pixels that is often taken otherwise, alone."""
    yield from _decoding(origin)
    yield from _resizing(origin)


def input_changes(origin: Origin) -> Iterator[Change]:
    """The same of steps from pixels to what the graph gets."""
    yield from _normalising(origin)
    yield from _arranging(origin)


def _decoding(origin: Origin) -> Iterator[Change]:
    yield Change(
        "decode",
        "does not turn pictures as their EXIF orientation asks",
        "turn them before they are given to the origin, as the server does",
        replace(origin, upright=False),
    )
    yield Change(
        "decode",
        "shows transparent parts over black",
        "put them over white, as the server does",
        replace(origin, background=(0, 0, 0)),
    )
    yield Change(
        "decode",
        "shows the colours beneath transparent parts, as Pillow's convert does",
        "put them over white, as the server does, or leave such pictures out",
        replace(origin, background=None),
    )
    yield Change(
        "decode",
        "takes 255 for all above it in grey pictures of 16 bits, as Pillow's convert does",
        "divide their levels by 256, as the server does, or leave them out",
        replace(origin, high_bytes=False),
    )
    yield Change(
        "decode",
        'only says Image.open(path).convert("RGB"): EXIF, transparency and 16 bits come out otherwise',
        "turn pictures, put them over white and divide 16 bits by 256, as the server does, or leave such ones out",
        replace(origin, upright=False, background=None, high_bytes=False),
    )


def _resizing(origin: Origin) -> Iterator[Change]:
    if origin.antialias:
        yield Change(
            "resize",
            "shrinks pictures without antialias, as OpenCV's INTER_LINEAR and torch's interpolate do",
            "the server always shrinks with antialias: measure what that changes, or shrink so in the origin",
            replace(origin, antialias=False),
        )
    for name in ("bilinear", "bicubic", "lanczos", "nearest"):
        if name != origin.interpolation:
            yield Change("resize", f"resizes with {name}", _interpolation(name), replace(origin, interpolation=name))
    side = max(origin.height, origin.width)
    if origin.resize is not None:
        yield Change(
            "resize",
            "squeezes pictures to its size instead of cropping them",
            "say --crop-mode squash",
            replace(origin, resize=None),
        )
    for resize in sorted({side, round(side / 0.875), round(side / 0.9), round(side / 0.95), 256} - {origin.resize}):
        if resize >= side:
            words = f"brings the shorter side to {resize} before the crop"
            yield Change("resize", words, f"say --resize {resize}", replace(origin, resize=resize))


def _interpolation(name: str) -> str:
    if name in ("bilinear", "bicubic"):
        return f"say --interpolation {name}"
    return "the server has bilinear and bicubic: measure what that changes, or resize so in the origin"


def _normalising(origin: Origin) -> Iterator[Change]:
    for words, (mean, std) in _NORMALISATIONS.items():
        shifts, scales = (
            values if len(values) == origin.channels else values[:1] * origin.channels for values in (mean, std)
        )
        yield _normalised(origin, f"normalises to {words}", shifts, scales)


def _normalised(origin: Origin, words: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Change:
    flags = f"say --mean {_told(mean)} --std {_told(std)}"
    return Change("normalise", words, flags, replace(origin, mean=mean, std=std))


def _arranging(origin: Origin) -> Iterator[Change]:
    if origin.channels == 3:
        now, other = ("BGR", "RGB") if origin.bgr else ("RGB", "BGR")
        words = f"takes the channels in the order {other}, not {now}"
        yield Change("layout", words, f"say --channel-order {other.lower()}", _reversed(origin))
        yield Change(
            "layout",
            f"takes the channels in the order {other}, and its mean and deviation in the order {now}",
            f"say --channel-order {other.lower()}, and --mean and --std in reverse",
            replace(origin, bgr=not origin.bgr),
        )
    for axes, words in _AXES.items():
        if axes != origin.axes:
            yield Change("layout", words, "transpose the axes in the origin", replace(origin, axes=axes))


def _reversed(origin: Origin) -> Origin:
    return replace(origin, bgr=not origin.bgr, mean=origin.mean[::-1], std=origin.std[::-1])


def fitted_normalisation(origin: Origin, pixels: NDArray[np.uint8], inputs: NDArray[np.float32]) -> Iterator[Change]:
    """The mean and deviation that make these inputs of these pixels [n, h, w, c], by least squares, if any do."""
    expected = origin.arrange(pixels.astype(np.float32))
    if inputs.shape != expected.shape:
        return
    axis = 1 if origin.axes == "nchw" else 3
    ordered = pixels[..., ::-1] if origin.bgr else pixels
    channels = np.moveaxis(inputs, axis, 0).reshape(origin.channels, -1)
    levels = np.moveaxis(origin.arrange(np.asarray(ordered / 255, np.float32)), axis, 0).reshape(origin.channels, -1)
    lines = [np.polyfit(level, values, 1) for level, values in zip(levels, channels, strict=True)]
    if all(slope > 0 for slope, _ in lines):
        mean, std = tuple(float(-base / slope) for slope, base in lines), tuple(float(1 / slope) for slope, _ in lines)
        told = f"normalises with mean {_told(mean)} and deviation {_told(std)}"
        yield _normalised(origin, told, mean, std)


def _told(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.4g}" for value in values)
