"""What a model answered on the pictures that it was measured on: what its answers in service are compared with."""

from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from models.validation import STRICT

CONFIDENCE_BOUNDS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Upper bounds of the buckets in which probabilities of top classes are counted; arithmetic may put some above 1."""

_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class ReferenceDistribution:
    """The distribution of a model's answers on the images that its metrics are of.

    Attributes:
        class_counts: of how many images each label was the most probable, in the order of the labels.
        confidence_bounds: upper bounds of buckets of the most probable label's probability.
        confidence_counts: images in each bucket, and above the last.

    """

    class_counts: tuple[_Count, ...]
    confidence_bounds: tuple[float, ...]
    confidence_counts: tuple[_Count, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not self.images:
            raise ValueError("it is of no image")
        if len(self.confidence_counts) != len(self.confidence_bounds) + 1:
            raise ValueError("confidence_counts must be one more than confidence_bounds")
        if sum(self.class_counts) != sum(self.confidence_counts):
            raise ValueError("class_counts and confidence_counts are of different numbers of images")
        return self

    @property
    def images(self) -> int:
        """How many images it is of."""
        return sum(self.class_counts)
