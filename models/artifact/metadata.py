"""What a released model says about itself: the JSON document inside its `model.onnx`."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from models.validation import explain

METADATA_KEY: Final = "resnet_serve"
FORMAT_VERSION: Final = 1

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, ser_json_bytes="base64", val_json_bytes="base64")

_Side = Annotated[int, Field(gt=0, le=65_535)]
_Level = Annotated[int, Field(ge=0, le=255)]
_Positive = Annotated[float, Field(gt=0)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ArtifactError(Exception):
    """A released model is not what it should be; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Preprocessing:
    """How an encoded image becomes the network's input, and how the graph normalises that.

    In this order: EXIF orientation, alpha over the background, mode, one resize that also crops, polarity.
    Fields with a single allowed value state a fact that a reader of the metadata needs.

    Attributes:
        mode: grey or colour; palettes, CMYK and all else are converted as Pillow does it (ITU-R 601-2 luma).
        height: of the network's input, in pixels.
        width: of the network's input, in pixels.
        exif_transpose: turn the image as its EXIF orientation asks.
        background: RGB colour, 0 to 255, that transparent pixels show.
        sixteen_bit: samples of 16 bits keep their high byte, as libpng's `strip` does.
        polarity: `light_on_dark` inverts a picture whose outermost ring of pixels has a mean above 127:
            dark digits on light paper become MNIST's light digits on dark.
        resize: length of the shorter side in pixels before the crop, as torchvision's `Resize(int)`.
        crop: the centre of the resized image, as torchvision's `CenterCrop`.
        interpolation: Pillow's filter.
        antialias: the filter widens when it shrinks.
        draft: a JPEG may be decoded at 1/2, 1/4 or 1/8 when that is still no smaller than the resized image.
        mean: of each channel, as a fraction of 255; subtracted inside the graph.
        std: of each channel, as a fraction of 255; divided by inside the graph.

    """

    mode: Literal["L", "RGB"]
    height: _Side
    width: _Side
    resize: _Side
    mean: tuple[float, ...]
    std: tuple[_Positive, ...]
    crop: Literal["center"]
    interpolation: Literal["bilinear", "bicubic"]
    antialias: Literal[True]
    exif_transpose: bool
    background: tuple[_Level, _Level, _Level]
    sixteen_bit: Literal["high_byte"]
    polarity: Literal["as_is", "light_on_dark"]
    draft: bool

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mode {self.mode} needs {self.channels} values of mean and of std")
        if self.resize < max(self.height, self.width):
            raise ValueError(f"resize {self.resize} is smaller than the crop {self.height} x {self.width}")
        if self.polarity != "as_is" and self.mode != "L":
            raise ValueError("polarity light_on_dark is for mode L")
        return self

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.mode == "L" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one input image."""
        return self.height, self.width, self.channels


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class GoldenExample:
    """A lossless picture with what became of it at export: the digest of its pixels, and its logits."""

    name: str
    png: bytes
    pixels_sha256: _Sha256
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Metadata:
    """All that is known of a released model beyond its graph.

    Attributes:
        format_version: of this document.
        architecture: name in `models.networks.registry`.
        arguments: what the registry's builder was given beyond the class count.
        labels: name of each class, in the order of the logits.
        precision: of the graph.
        tolerance: for each precision an engine may run at, the largest |difference| from the golden logits,
            as a fraction of the largest |logit|.
        metrics: figures, with the data set and split that they were measured on.
        recipe: the training settings.
        tools: version of each library that made the artifact.
        created: date and time, ISO 8601, UTC.
        golden: examples that every server checks itself against before it serves.

    """

    format_version: Literal[1]
    architecture: str
    arguments: dict[str, str]
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    preprocessing: Preprocessing
    precision: Precision
    tolerance: dict[Precision, _Positive]
    metrics: dict[str, str | int | float]
    recipe: dict[str, JsonValue]
    tools: dict[str, str]
    created: str
    golden: tuple[GoldenExample, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        for example in self.golden:
            if len(example.logits) != len(self.labels):
                raise ValueError(f"golden example {example.name} has {len(example.logits)} logits")
        return self

    def to_json(self) -> str:
        """The document; `from_json` gives back an equal value."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read the document; an unknown, missing or ill-typed field is an ArtifactError that names it."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise ArtifactError(f"metadata under {METADATA_KEY!r} is not valid: {explain(error)}") from error


_ADAPTER = TypeAdapter(Metadata)
