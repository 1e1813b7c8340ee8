"""The model repository: which models are served in which version, and which one answers `/predict`."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.artifact.artifact import Artifact, OriginCheck, read_artifact
from models.artifact.metadata import ArtifactError
from service.errors import NotFound
from service.selection import UNDECIDED, Selection

ZOO = Path(__file__).resolve().parent.parent / "models" / "zoo"
ZOO_DEFAULT = "mnist-residual"


Identity = tuple[str, int, str, str]
"""Name, version, and the SHA-256 of each graph of a released model."""


class RepositoryError(Exception):
    """The repository cannot be served; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models to be served, in a fixed order, and what could not be read, with the reason.

    Each has a number; while one catalog takes the place of another, no number is in both.

    Attributes:
        failed: reasons by model and version; the version is empty if the model has none.
        default: number of the default model.
        first: number of the first model.
        shadow: number of the version, if there is one, that gets copies of what another of its model is asked.

    """

    artifacts: tuple[Artifact, ...]
    failed: Mapping[tuple[str, str], str]
    default: int
    first: int = 0
    shadow: int | None = None

    def __getitem__(self, number: int) -> Artifact:
        return self.artifacts[number - self.first]

    @property
    def numbers(self) -> range:
        """The models' numbers."""
        return range(self.first, self.first + len(self.artifacts))

    def beside(self, other: "Catalog") -> "Catalog":
        """The same with numbers that another catalog does not have."""
        first = 0 if len(self.artifacts) <= other.first else other.first + len(other.artifacts)
        by = first - self.first
        shadow = None if self.shadow is None else self.shadow + by
        return replace(self, first=first, default=self.default + by, shadow=shadow)

    @property
    def live(self) -> tuple[Artifact, ...]:
        """Those that are asked: all but the shadow."""
        return tuple(self[number] for number in self.numbers if number != self.shadow)

    @property
    def pinned(self) -> frozenset[int]:
        """Numbers of the models that are always loaded: the default and the shadow."""
        return frozenset({self.default} if self.shadow is None else {self.default, self.shadow})

    def same_models(self, other: "Catalog") -> bool:
        """Whether another catalog has the same models in the same versions, with the same content."""
        return self._identities() == other._identities() and len(self.live) == len(other.live)

    def _identities(self) -> list[Identity]:
        return [identity(artifact) for artifact in self.artifacts]

    def fallbacks(self) -> dict[str, list[str]]:
        """The versions of each served model that could not be read, the highest first: an older one is served."""
        found: dict[str, list[str]] = {}
        served = {artifact.name for artifact in self.artifacts}
        for name, version in self.failed:
            if name in served:
                found.setdefault(name, []).append(version)
        return found

    def keeping(self, weights: bool, int8: bool) -> "Catalog":
        """The same without the copies of the network that no engine will run: they would stay in memory."""
        kept = (
            replace(each, weights=each.weights if weights else None, int8=each.int8 if int8 else None)
            for each in self.artifacts
        )
        return replace(self, artifacts=tuple(kept))

    def without_files(self) -> "Catalog":
        """The same with what the files say, and no copy of them."""
        return replace(self, artifacts=tuple(map(_without_files, self.artifacts)))

    def pickle(self) -> bytes:
        """For another process of this server, without the files."""
        return pickle.dumps(self.without_files(), pickle.HIGHEST_PROTOCOL)

    @classmethod
    def unpickle(cls, data: bytes) -> "Catalog":
        """What `pickle` gave in another process of this server."""
        catalog: Catalog = pickle.loads(data)  # nosec B301 # noqa: S301 - the supervisor wrote it
        return catalog

    def find(self, name: str | None, version: str | None) -> int:
        """Number of a model, its served version if none is named, the default without a name; or NotFound."""
        if name is None:
            return self.default
        versions = {
            str(artifact.version): i
            for i, artifact in zip(self.numbers, self.artifacts, strict=True)
            if artifact.name == name
        }
        if not versions:
            served = ", ".join(sorted({artifact.name for artifact in self.artifacts}))
            raise NotFound(f"no model {name!r} here; served are: {served}")
        if version is None:
            return max((i for i in versions.values() if i != self.shadow), key=lambda i: self[i].version)
        if version not in versions:
            raise NotFound(f"no version {version} of {name}; served are: {', '.join(sorted(versions, key=int))}")
        return versions[version]


def identity(artifact: Artifact) -> Identity:
    """Two versions that have the same are the same."""
    return artifact.name, artifact.version, artifact.sha256, artifact.int8.sha256 if artifact.int8 else ""


def _without_files(artifact: Artifact) -> Artifact:
    int8 = replace(artifact.int8, model=b"") if artifact.int8 else None
    return replace(artifact, model=b"", weights=None, int8=int8)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model as the repository's folders show it.

    Attributes:
        versions: the folders of its versions, the highest first.
        problem: why there are none, if there are none.

    """

    name: str
    versions: tuple[Path, ...]
    problem: str = ""


def read_repository(
    repository: Path,
    default_model: str | None,
    try_version: Callable[[Artifact], None] = lambda _: None,
    check_origin: OriginCheck | None = None,
    selection: Selection = UNDECIDED,
) -> Catalog:
    """Read the highest version of every model under `repository` that may be served and can be read.

    What cannot be read is listed as failed and the rest are served; RepositoryError if nothing of the default can.
    `try_version` is asked about each version that there is an older one for; its ArtifactError counts as the reader's.
    `check_origin` is asked about every one, as `read_artifact` does.
    """
    folders = list_models(repository)
    default = _choose_default(repository, default_model, folders)
    artifacts: list[Artifact] = []
    failed: dict[tuple[str, str], str] = {}
    for folder in folders:
        if folder.problem:
            failed[folder.name, ""] = folder.problem
        elif artifact := _read_newest(_allowed(folder, selection), failed, try_version, check_origin):
            artifacts.append(artifact)
    names = [artifact.name for artifact in artifacts]
    if default not in names:
        reasons = "; ".join(reason for (name, _), reason in failed.items() if name == default)
        reasons = reasons or "it has no version beside the shadow"
        raise RepositoryError(f"the default model cannot be served: {reasons}")
    return Catalog(tuple(artifacts), failed, names.index(default))


def reread_repository(
    repository: Path,
    served: Catalog,
    selection: Selection,
    check: Callable[[Artifact], None],
    check_origin: OriginCheck | None = None,
    only: str | None = None,
) -> Catalog:
    """What is to be served now in place of what is, of one model only or of all; RepositoryError if nothing can be.

    A model that is served and can now not be read goes on as it is; one whose folder is gone does not. `check` is asked
    about each version that is read; its ArtifactError counts as the reader's.
    """
    folders = {folder.name: folder for folder in list_models(repository)}
    before = {artifact.name: artifact for artifact in served.live}
    artifacts: list[Artifact] = []
    failed: dict[tuple[str, str], str] = {}
    for name in sorted(folders.keys() | before.keys()):
        artifact = before.get(name)
        if only in (None, name):
            artifact = _read_again(folders.get(name), artifact, selection, failed, check, check_origin)
        else:
            failed |= {one: reason for one, reason in served.failed.items() if one[0] == name}
        artifacts += [artifact] if artifact else []
    names, default = [artifact.name for artifact in artifacts], served[served.default].name
    if default not in names:
        reasons = "; ".join(reason for (name, _), reason in failed.items() if name == default)
        raise RepositoryError(reasons or f"{default} answers /predict and cannot be taken away: keep a version of it")
    return Catalog(tuple(artifacts), failed, names.index(default))


def _read_again(
    folder: ModelFolder | None,
    before: Artifact | None,
    selection: Selection,
    failed: dict[tuple[str, str], str],
    check: Callable[[Artifact], None],
    check_origin: OriginCheck | None,
) -> Artifact | None:
    """The version of a model that is to be served, None if none is."""
    if folder is None:
        return None
    if folder.problem:
        failed[folder.name, ""] = folder.problem
    found = _read_newest(_allowed(folder, selection), failed, check, check_origin, even_the_last=True)
    if before and selection.allows(before.name, before.version) and (found is None or _is_broken(before, failed)):
        return before
    return found


def _allowed(folder: ModelFolder, selection: Selection) -> ModelFolder:
    """The folder with the versions that may be served."""
    versions = tuple(path for path in folder.versions if selection.allows(folder.name, int(path.name)))
    return replace(folder, versions=versions)


def _is_broken(artifact: Artifact, failed: Mapping[tuple[str, str], str]) -> bool:
    """Whether what is served could not be read again."""
    return (artifact.name, str(artifact.version)) in failed


def _read_newest(
    folder: ModelFolder,
    failed: dict[tuple[str, str], str],
    try_version: Callable[[Artifact], None],
    check_origin: OriginCheck | None,
    *,
    even_the_last: bool = False,
) -> Artifact | None:
    """The highest version that can be read; why those above cannot goes to `failed`."""
    for directory in folder.versions:
        try:
            artifact = read_artifact(directory, check_origin, directory.parent.parent)
            if even_the_last or directory != folder.versions[-1]:
                try_version(artifact)
        except ArtifactError as error:
            failed[folder.name, directory.name] = str(error)
        else:
            return artifact
    return None


def signed_by(key: Path | None) -> OriginCheck | None:
    """The check that this public key has signed what is read; None without one. ArtifactError if it is no such key."""
    if key is None:
        return None
    from models.artifact.signature import TrustedKey  # takes a second and 60 MiB

    return TrustedKey(key).check


def list_models(repository: Path) -> list[ModelFolder]:
    """Every model by name; RepositoryError if none has a version.

    What is hidden, `lost+found`, and files that are no model's are passed over.
    """
    if not repository.is_dir():
        raise RepositoryError(
            f"the model repository {repository} is no directory: give a folder of <model>/<version>/model.onnx"
        )
    try:
        paths = sorted(path for path in repository.iterdir() if _may_be_model(path))
    except OSError as error:
        raise RepositoryError(
            f"the model repository {repository} cannot be read: {error.strerror}; it must be a folder that you may read"
        ) from error
    folders = [_list_versions(path) for path in paths]
    if not any(folder.versions for folder in folders):
        problems = "".join(f"; {folder.problem}" for folder in folders)
        raise RepositoryError(
            f"no models in {repository}: expected <model>/<version>/model.onnx; make one with `resnet-train export`"
            f"{problems}"
        )
    return folders


def _may_be_model(path: Path) -> bool:
    """Whether a model is probably meant: a folder, or a network's file in the place of its folder."""
    if path.name.startswith(".") or path.name == "lost+found":
        return False
    return path.suffix in ("", ".onnx", ".safetensors") or not path.is_file()


def _list_versions(path: Path) -> ModelFolder:
    try:
        versions = [entry for entry in path.iterdir() if entry.name.isdecimal() and int(entry.name) > 0]
    except NotADirectoryError:
        return ModelFolder(path.name, (), f"{path}: is a file, not a folder of versions")
    except OSError as error:
        return ModelFolder(path.name, (), f"{path}: cannot be read: {error}")
    versions.sort(key=lambda entry: int(entry.name), reverse=True)
    problem = "" if versions else f"{path}: no version in it; expected a folder such as {path.name}/1 with model.onnx"
    return ModelFolder(path.name, tuple(versions), problem)


def _choose_default(repository: Path, wanted: str | None, folders: Sequence[ModelFolder]) -> str:
    """The setting, else the only model with a version, else (in the zoo that ships) the zoo's own default."""
    names = [folder.name for folder in folders if folder.versions]
    choices = ", ".join(names)
    if wanted is not None:
        if wanted not in [folder.name for folder in folders]:
            raise RepositoryError(f"no model {wanted!r} in {repository}; choose one of: {choices}")
        return wanted
    if len(names) == 1:
        return names[0]
    if repository.resolve() == ZOO and ZOO_DEFAULT in names:
        return ZOO_DEFAULT
    raise RepositoryError(f"{repository} holds several models; choose with --default-model one of: {choices}")
