"""What a released model says about itself: the JSON document inside its `model.onnx`."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from models.artifact.reference import ReferenceDistribution
from models.images.preprocessing import Preprocessing
from models.validation import STRICT, explain

METADATA_KEY: Final = "resnet_serve"
FORMAT_VERSION: Final = 1

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8"]

_CONFIG = STRICT | ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

_Positive = Annotated[float, Field(gt=0)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def printable(text: str) -> str:
    """The text with escapes in place of what is no Unicode: file systems have names that no JSON can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


class ArtifactError(Exception):
    """A released model is not what it should be; the message says what is wrong and what to do.

    `reason` is the message without the directory, for clients that shall not know where on its machine a server looks.
    """

    def __init__(self, reason: str, directory: Path | None = None) -> None:
        super().__init__(printable(f"{directory}: {reason}" if directory else reason))
        self.reason = printable(reason)


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class GoldenExample:
    """A lossless picture with what became of it at export: the digest of its pixels, and its logits."""

    name: str
    png: bytes
    pixels_sha256: _Sha256
    logits: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, config=_CONFIG)
class Metadata:
    """All that is known of a released model beyond its graph.

    Attributes:
        format_version: version of this document's format.
        architecture: what the network is called; the PyTorch engine, which builds it, needs one of
            `models.networks.registry`, ONNX Runtime needs no more than the graph.
        arguments: what the registry's builder was given beyond the class count.
        labels: name of each class, in the order of the logits.
        precision: precision of the graph.
        tolerance: for each precision an engine may run at, the largest |difference| from the golden logits,
            as a fraction of the largest |logit|.
        metrics: figures, with the data set and split that they were measured on.
        recipe: the training settings.
        tools: version of each library that made the artifact.
        created: date and time, ISO 8601, UTC.
        golden: examples that every server checks itself against before it serves.
        reference: what the model answered on the images of `metrics`, if that was counted.

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
    reference: ReferenceDistribution | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels repeat")
        if self.reference and len(self.reference.class_counts) != len(self.labels):
            raise ValueError(f"the reference has {len(self.reference.class_counts)} classes")
        for example in self.golden:
            if len(example.logits) != len(self.labels):
                raise ValueError(f"golden example {example.name} has {len(example.logits)} logits")
        return self

    def lost_points(self) -> float | None:
        """Points of accuracy that a model in 8 bits has lost, by its own figures; None where they do not tell.

        Where accuracies are not known it is the share of images whose class changes: no more can be lost.
        """
        match self.metrics:
            case {"fp32_accuracy": int() | float() as before, "accuracy": int() | float() as after}:
                return round(100 * (before - after), 7)  # 92 % less 91.5 % is a little over 0.5 % in binary
            case {"agreement_with_fp32": int() | float() as agreement}:
                return round(100 * (1 - agreement), 7)
        return None

    def to_json(self) -> str:
        """The document; `from_json` gives back an equal value."""
        return _ADAPTER.dump_json(self).decode()

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read the document; an unknown, missing or ill-typed field is an ArtifactError that names it."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise ArtifactError(
                f"metadata under {METADATA_KEY!r} is not valid: {explain(error)}; export it again"
            ) from error


_ADAPTER = TypeAdapter(Metadata)
