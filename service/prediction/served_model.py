"""The models of the catalog as one API process serves them, by the names that requests give."""

from collections.abc import Collection
from dataclasses import dataclass

from models.images.decoder import Preprocessor
from models.images.image_type import USUAL_TYPES, ImageType
from service.repository import Catalog


@dataclass(eq=False, slots=True)
class ServedModel:
    """One model of the catalog.

    Attributes:
        index: in the catalog.
        input_shape: height, width, channels.
        failure: why no worker can run it, if that is so.

    """

    index: int
    name: str
    version: str
    labels: tuple[str, ...]
    preprocessor: Preprocessor
    input_shape: tuple[int, int, int]
    failure: str | None = None


class ModelLookup(dict[tuple[str | None, str | None], ServedModel]):
    """Every model by name and version: None for the highest version, and for the default model.

    A name or a version that is not served is NotFound.
    """

    def __init__(self, catalog: Catalog, max_pixels: int, types: Collection[ImageType] = USUAL_TYPES) -> None:
        super().__init__()
        self._catalog = catalog
        self.by_index = [
            ServedModel(
                index,
                artifact.name,
                str(artifact.version),
                artifact.labels,
                Preprocessor(artifact.metadata.preprocessing, max_pixels, types),
                artifact.input_shape,
            )
            for index, artifact in enumerate(catalog.artifacts)
        ]

    def __missing__(self, key: tuple[str | None, str | None]) -> ServedModel:
        model = self[key] = self.by_index[self._catalog.find(*key)]
        return model
