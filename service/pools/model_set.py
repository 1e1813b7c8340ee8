"""The models that workers load together."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.artifact.artifact import Artifact
from models.engines.selection import Choice
from service.catalog.catalog import Catalog
from service.ipc.shared_memory import SharedSequence

_numbers = itertools.count()


@dataclass(eq=False, slots=True)
class ModelSet:
    """The models of one catalog, for as long as a worker has them; only workers keep copies of their files.

    Attributes:
        catalog: without the models' files.
        files: the catalog's artifacts with them.
        choices: how each model is run, by name and version, where there was a choice.

    """

    catalog: Catalog
    files: SharedSequence[Artifact]
    choices: Mapping[tuple[str, int], Choice]
    number: int = field(default_factory=lambda: next(_numbers))

    @classmethod
    def of(cls, catalog: Catalog, choices: Mapping[tuple[str, int], Choice]) -> "ModelSet":
        """The models of a catalog that has their files."""
        files = SharedSequence[Artifact]()
        files.store(catalog.artifacts)
        return cls(catalog.without_files(), files, choices)

    def close(self) -> None:
        """Give up the files in this process."""
        self.files.close()
