"""The model repository: which models are served, and which one answers `/predict`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.artifact.artifact import Artifact, read_artifact
from models.artifact.metadata import ArtifactError
from service.errors import NotFound

ZOO = Path(__file__).resolve().parent.parent / "models" / "zoo"
ZOO_DEFAULT = "mnist-residual"


class RepositoryError(Exception):
    """The repository cannot be served; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models to be served, in a fixed order, and those that could not be read, with the reason."""

    artifacts: tuple[Artifact, ...]
    failed: dict[tuple[str, int], ArtifactError]
    default: int
    """Index of the default model in `artifacts`."""

    def without_weights(self) -> "Catalog":
        """The same without the copies of the weights, which an engine that runs the graph does not need."""
        return replace(self, artifacts=tuple(replace(artifact, weights=None) for artifact in self.artifacts))

    def find(self, name: str | None, version: str | None) -> int:
        """Index of a model, its highest version if none is named, the default without a name; or NotFound."""
        if name is None:
            return self.default
        versions = {str(artifact.version): i for i, artifact in enumerate(self.artifacts) if artifact.name == name}
        if not versions:
            served = ", ".join(sorted({artifact.name for artifact in self.artifacts}))
            raise NotFound(f"no model {name!r} here; served are: {served}")
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise NotFound(f"no version {version} of {name}; served are: {', '.join(sorted(versions, key=int))}")
        return versions[version]


def read_repository(repository: Path, default_model: str | None) -> Catalog:
    """Read the highest version of every model under `repository`.

    A model that cannot be read is listed as failed and the rest are served, unless it is the default.
    """
    directories = highest_versions(repository)
    default = _choose_default(repository, default_model, [directory.parent.name for directory in directories])
    artifacts: list[Artifact] = []
    failed: dict[tuple[str, int], ArtifactError] = {}
    for directory in directories:
        try:
            artifacts.append(read_artifact(directory))
        except ArtifactError as error:
            if directory.parent.name == default:
                raise RepositoryError(f"the default model cannot be served: {error}") from error
            failed[directory.parent.name, int(directory.name)] = error
    index = [artifact.name for artifact in artifacts].index(default)
    return Catalog(tuple(artifacts), failed, index)


def highest_versions(repository: Path) -> list[Path]:
    """The directory of the highest version of each model, by name; RepositoryError if there is none."""
    if not repository.is_dir():
        raise RepositoryError(f"the model repository {repository} is no directory")
    versions = (path for path in repository.glob("*/*/") if path.name.isdecimal() and int(path.name) > 0)
    highest: dict[str, Path] = {}
    for path in sorted(versions, key=lambda path: int(path.name)):
        highest[path.parent.name] = path
    if not highest:
        raise RepositoryError(
            f"no models in {repository}: expected <model>/<version>/model.onnx; make one with `resnet-train export`"
        )
    return [highest[name] for name in sorted(highest)]


def _choose_default(repository: Path, wanted: str | None, names: Sequence[str]) -> str:
    """The setting, else the only model, else (in the zoo that ships) the zoo's own default."""
    choices = ", ".join(names)
    if wanted is not None:
        if wanted not in names:
            raise RepositoryError(f"no model {wanted!r} in {repository}; choose one of: {choices}")
        return wanted
    if len(names) == 1:
        return names[0]
    if repository.resolve() == ZOO and ZOO_DEFAULT in names:
        return ZOO_DEFAULT
    raise RepositoryError(f"{repository} holds several models; choose with --default-model one of: {choices}")
