"""Which models are served: what lies in the repository, what of it loads, and which one answers `/predict`."""

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
    failed: dict[tuple[str, int], str]
    default: int
    """Place of the default model in `artifacts`."""

    def without_weights(self) -> "Catalog":
        """The same for an engine that runs the graph: the copies of the weights beside it are let go."""
        return replace(self, artifacts=tuple(replace(artifact, weights=None) for artifact in self.artifacts))

    def find(self, name: str | None, version: str | None) -> int:
        """Place of the named model, its highest version if none is named, the default if nothing is; or NotFound."""
        if name is None:
            return self.default
        places = {str(artifact.version): i for i, artifact in enumerate(self.artifacts) if artifact.name == name}
        if not places:
            served = ", ".join(sorted({artifact.name for artifact in self.artifacts}))
            raise NotFound(f"no model {name!r} here; served are: {served}")
        if version is None:
            return places[max(places, key=int)]
        if version not in places:
            raise NotFound(f"no version {version} of {name}; served are: {', '.join(sorted(places, key=int))}")
        return places[version]


def read_repository(repository: Path, default_model: str | None) -> Catalog:
    """Read the highest version of every model under `repository`.

    A model that cannot be read is listed as failed and the rest are served, unless it is the default.
    """
    directories = highest_versions(repository)
    default = _choose_default(repository, default_model, [directory.parent.name for directory in directories])
    artifacts: list[Artifact] = []
    failed: dict[tuple[str, int], str] = {}
    for directory in directories:
        try:
            artifacts.append(read_artifact(directory))
        except ArtifactError as error:
            if directory.parent.name == default:
                raise RepositoryError(f"the default model cannot be served: {error}") from error
            failed[directory.parent.name, int(directory.name)] = str(error)
    place = [artifact.name for artifact in artifacts].index(default)
    return Catalog(tuple(artifacts), failed, place)


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
