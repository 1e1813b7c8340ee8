"""Golden examples: pictures with known pixels and logits, on which every server checks itself first."""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError, GoldenExample, Precision
from models.engines.engine import Engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError

TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "tf32": 2e-2, "fp16": 2e-2, "bf16": 2e-2, "int8": 5e-2}
"""Largest |difference| from the golden logits for each precision, as a fraction of the largest |logit|."""

_CANDIDATES = 8  # random pictures of each kind, of which one is kept
# Mode, and size as a multiple of the network's input: larger, smaller, and with transparent parts.
_KINDS = {
    "grey-larger": ("L", 1.75, 1.5),
    "grey-smaller": ("L", 0.75, 0.75),
    "colour-larger": ("RGB", 1.5, 2.0),
    "colour-smaller": ("RGB", 0.5, 0.75),
    "alpha-larger": ("RGBA", 1.25, 1.25),
    "grey-same": ("L", 1.0, 1.0),
}


def make(artifact: Artifact, engine: Engine, seed: int = 0) -> tuple[GoldenExample, ...]:
    """Examples for the artifact, with the engine's logits for each.

    The candidate with the clearest winner is taken, so that a precision's noise does not change top-1.
    """
    preprocessor = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS)
    generator = np.random.default_rng(seed)
    height, width, _ = artifact.input_shape
    examples = []
    for name, (mode, taller, wider) in _KINDS.items():
        size = max(1, round(height * taller)), max(1, round(width * wider))
        pngs = [_png(_picture(generator, mode, *size)) for _ in range(_CANDIDATES)]
        pixels = np.stack([preprocessor(png) for png in pngs])
        logits = engine.run(pixels)
        second, first = np.sort(logits, axis=1)[:, -2:].T
        best = int(np.argmax(first - second))
        digest, winner = _digest(pixels[best]), tuple(logits[best].tolist())
        examples.append(GoldenExample(name=name, png=pngs[best], pixels_sha256=digest, logits=winner))
    return tuple(examples)


def verify(artifact: Artifact, engine: Engine) -> "GoldenBatch":
    """Compare pixels and logits of every golden example; ArtifactError at the first that differs.

    Each is run alone; what is returned compares them in larger batches. An engine in 8 bits is held against the
    examples of the model in 8 bits, if it has one beside it.
    """
    artifact = artifact.run_in(engine.precision)
    golden = artifact.metadata.golden
    if not golden:
        raise ArtifactError(f"{artifact.name}/{artifact.version} has no golden examples; export it again")
    tolerance = _tolerance(artifact, engine)
    preprocessor = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS)
    pixels = []
    for example in golden:
        try:
            pixels.append(_proved(example, preprocessor, engine, tolerance))
        except (ArtifactError, ImageError) as error:
            raise ArtifactError(
                f"{artifact.name}/{artifact.version}: golden example {example.name!r}: {error}; "
                f"here: {_versions(engine)}; made with {artifact.metadata.tools}; use these versions, or export it here"
                f"{_of_8_bits(artifact)}"
            ) from error
    return GoldenBatch(np.stack(pixels), np.array([each.logits for each in golden], np.float32), tolerance)


@dataclass(frozen=True, slots=True)
class GoldenBatch:
    """The golden examples in turn, as many as a batch has: an engine may err in a batch of one size alone.

    Attributes:
        pixels: of all examples, [n, height, width, channels].
        logits: of all examples, [n, classes].
        tolerance: as in TOLERANCE.

    """

    pixels: NDArray[np.uint8]
    logits: NDArray[np.float32]
    tolerance: float

    def images(self, size: int) -> NDArray[np.uint8]:
        """The pixels of a batch of this size."""
        return np.resize(self.pixels, (size, *self.pixels.shape[1:]))

    def verify(self, logits: NDArray[np.float32]) -> None:
        """Compare what an engine gave for such a batch; ArtifactError at the first image that differs."""
        for place in range(len(logits)):
            try:
                _compare(logits[place], self.logits[place % len(self.logits)], self.tolerance)
            except ArtifactError as error:
                raise ArtifactError(
                    f"golden examples in a batch of {len(logits)}: {error}; right in smaller batches: "
                    "set --max-batch-size, or export it again"
                ) from error


def _proved(example: GoldenExample, preprocessor: Preprocessor, engine: Engine, tolerance: float) -> NDArray[np.uint8]:
    """The example's pixels [height, width, channels], if they and their logits are right; ArtifactError, ImageError."""
    pixels = preprocessor(example.png)
    if (digest := _digest(pixels)) != example.pixels_sha256:
        raise ArtifactError(f"pixels have SHA-256 {digest[:12]}..., expected {example.pixels_sha256[:12]}...")
    (logits,) = engine.run(pixels[None])
    _compare(logits, np.array(example.logits, np.float32), tolerance)
    return pixels


def _compare(logits: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float) -> None:
    """ArtifactError if an image's logits differ, or its class."""
    difference, allowed = np.abs(logits - expected).max(), tolerance * np.abs(expected).max()
    if not difference <= allowed:  # also when it is not a number
        raise ArtifactError(f"logits differ by {difference:.3g}, at most {allowed:.3g} is allowed")
    if logits.argmax() != expected.argmax():
        raise ArtifactError(f"class {logits.argmax()}, expected {expected.argmax()}")


def _tolerance(artifact: Artifact, engine: Engine) -> float:
    for precision, tolerance in artifact.metadata.tolerance.items():
        if precision == engine.precision:
            return tolerance
    raise ArtifactError(
        f"{artifact.name}/{artifact.version} states no tolerance for precision {engine.precision}; "
        f"choose one of {', '.join(artifact.metadata.tolerance)}"
    )


def _of_8_bits(artifact: Artifact) -> str:
    """Why an 8-bit model may differ where versions are the same."""
    if artifact.metadata.precision != "int8":
        return ""
    return (
        "; weights of 8 bits give other sums on CPUs with VNNI than on those without: make the model again with "
        "`resnet-train quantize`, whose weights have 7"
    )


def _picture(generator: np.random.Generator, mode: str, height: int, width: int) -> Image.Image:
    """A smooth random texture: small as a PNG at any size, and a wrong resize changes every pixel of it."""
    channels = len(mode)
    coarse = generator.integers(0, 256, (5, 5, channels), dtype=np.uint8)
    bands = [Image.fromarray(coarse[:, :, channel]).resize((width, height)) for channel in range(channels)]
    return Image.merge(mode, bands)


def _png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def _versions(engine: Engine) -> str:
    return f"Pillow {PIL.__version__}, numpy {np.__version__}, {engine.library} on {engine.device}"
