"""What is counted of a model: by which name, version and classes."""

from collections.abc import Sequence
from typing import NamedTuple

from models.artifact.artifact import Artifact
from models.artifact.reference import ReferenceDistribution
from service.catalog.catalog import Catalog

OTHER_CLASSES = "other"


class MeteredModel(NamedTuple):
    """What the metrics must know of a model from the start.

    Attributes:
        most_series: classes that are counted by themselves, at most.
        is_shadow: it gets copies of images.

    """

    name: str
    version: str
    labels: Sequence[str]
    most_series: int = 1000
    reference: ReferenceDistribution | None = None
    is_shadow: bool = False

    @classmethod
    def of(cls, artifact: Artifact, most_series: int, *, is_shadow: bool = False) -> "MeteredModel":
        """What the metrics must know of this released model."""
        reference = artifact.metadata.reference
        return cls(artifact.name, str(artifact.version), artifact.labels, most_series, reference, is_shadow)

    @property
    def series(self) -> list[str]:
        """What each label is counted as: the first ones by themselves, all others together."""
        others = len(self.labels) - self.most_series
        return [*self.labels[: self.most_series], *([OTHER_CLASSES] * others)]


def metered_models(catalog: Catalog, most_series: int) -> dict[int, MeteredModel]:
    """The catalog's models as the metrics know them, by their numbers, each with so many classes."""
    return {
        number: MeteredModel.of(catalog[number], most_series, is_shadow=number == catalog.shadow)
        for number in catalog.numbers
    }
