"""The models of the catalog as one API process serves them, by the names that requests give."""

from collections.abc import Collection
from dataclasses import dataclass

from models.artifact.artifact import Artifact
from models.images.decoder import Preprocessor
from models.images.image_type import USUAL_TYPES, ImageType
from service.catalog.catalog import Catalog


@dataclass(eq=False, slots=True)
class ServedModel:
    """One model of the catalog.

    Attributes:
        index: its number in the catalog.
        input_shape: height, width, channels.
        failure: why no worker can run it, if that is so.
        retired: it is served no more, but to requests that wait for workers already.

    """

    index: int
    name: str
    version: str
    labels: tuple[str, ...]
    preprocessor: Preprocessor
    input_shape: tuple[int, int, int]
    failure: str | None = None
    retired: bool = False


class ModelLookup(dict[tuple[str | None, str | None], ServedModel]):
    """Every model by name and version: None for the highest version, and for the default model.

    A name or a version that is not served is NotFound.
    """

    def __init__(self, catalog: Catalog, max_pixels: int, types: Collection[ImageType] = USUAL_TYPES) -> None:
        super().__init__()
        self._max_pixels, self._types = max_pixels, types
        self.by_index: dict[int, ServedModel] = {}
        self.follow(catalog)

    def follow(self, catalog: Catalog) -> None:
        """Have the models of this catalog; those before are retired."""
        for model in self.by_index.values():
            model.failure, model.retired = "it is not served any more", True
        self._catalog = catalog
        self.by_index = {number: self._serve(number, catalog[number]) for number in catalog.numbers}
        self.clear()

    def _serve(self, number: int, artifact: Artifact) -> ServedModel:
        preprocessor = Preprocessor(artifact.metadata.preprocessing, self._max_pixels, self._types)
        return ServedModel(
            number, artifact.name, str(artifact.version), artifact.labels, preprocessor, artifact.input_shape
        )

    def __missing__(self, key: tuple[str | None, str | None]) -> ServedModel:
        model = self[key] = self.by_index[self._catalog.find(*key)]
        return model
