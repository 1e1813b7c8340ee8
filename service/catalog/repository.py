"""The model repository: which versions of which models its folders hold, and which of them can be served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from models.artifact.artifact import Artifact, OriginCheck, read_artifact
from models.artifact.metadata import ArtifactError, printable
from service.catalog.catalog import Catalog
from service.catalog.selection import UNDECIDED, Selection

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"
ZOO_DEFAULT = "mnist-residual"


class RepositoryError(Exception):
    """The repository cannot be served; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


Failed = dict[tuple[str, str], str]
"""Why a model's version could not be read; the version is empty if the model has none."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model as the repository's folders show it.

    Attributes:
        versions: the folders of its versions, the highest first.
        problem: why there are none, if there are none.

    """

    name: str
    versions: tuple[Path, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A folder of models, and what must be true of a version beside that it can be read.

    Attributes:
        check: is asked about versions that were read; its ArtifactError counts as the reader's.
        check_origin: is asked about every version, as by `read_artifact`.

    """

    folder: Path
    check: Callable[[Artifact], None] = lambda _: None
    check_origin: OriginCheck | None = None

    def read(self, default_model: str | None, selection: Selection = UNDECIDED) -> Catalog:
        """The highest version of every model that may be served and can be read.

        What cannot be read is listed as failed and the rest are served; RepositoryError if nothing of the default can.
        `check` is not asked about a model's lowest version, in place of which there is none.
        """
        folders = list_models(self.folder)
        default = _choose_default(self.folder, default_model, folders)
        artifacts: list[Artifact] = []
        failed: Failed = {}
        for folder in folders:
            if folder.problem:
                failed[folder.name, ""] = folder.problem
            elif artifact := self._read_newest(_allowed(folder, selection), failed):
                artifacts.append(artifact)
        names = [artifact.name for artifact in artifacts]
        if default not in names:
            reasons = "; ".join(reason for (name, _), reason in failed.items() if name == default)
            reasons = reasons or "it has no version beside the shadow"
            raise RepositoryError(f"the default model cannot be served: {reasons}")
        return Catalog(tuple(artifacts), failed, names.index(default))

    def read_again(self, served: Catalog, selection: Selection, only: str | None = None) -> Catalog:
        """What is to be served now in place of what is, of one model only or of all; RepositoryError if nothing can be.

        A model that is served and can now not be read goes on as it is; one whose folder is gone does not.
        """
        folders = {folder.name: folder for folder in list_models(self.folder)}
        before = {artifact.name: artifact for artifact in served.live}
        artifacts: list[Artifact] = []
        failed: Failed = {}
        for name in sorted(folders.keys() | before.keys()):
            artifact = before.get(name)
            if only in (None, name):
                artifact = self._read_model_again(folders.get(name), artifact, selection, failed)
            else:
                failed |= {one: reason for one, reason in served.failed.items() if one[0] == name}
            artifacts += [artifact] if artifact else []
        names, default = [artifact.name for artifact in artifacts], served[served.default].name
        if default not in names:
            reasons = "; ".join(reason for (name, _), reason in failed.items() if name == default)
            raise RepositoryError(
                reasons or f"{default} answers /predict and cannot be taken away: keep a version of it"
            )
        return Catalog(tuple(artifacts), failed, names.index(default))

    def read_version(self, name: str, version: int) -> Artifact:
        """One version of a model, or ArtifactError."""
        artifact = self._read_files(self.folder / name / str(version))
        self.check(artifact)
        return artifact

    def _read_files(self, version: Path) -> Artifact:
        return read_artifact(version, self.check_origin, self.folder)

    def _read_model_again(
        self, folder: ModelFolder | None, before: Artifact | None, selection: Selection, failed: Failed
    ) -> Artifact | None:
        """The version of a model that is to be served, None if none is."""
        if folder is None:
            return None
        if folder.problem:
            failed[folder.name, ""] = folder.problem
        found = self._read_newest(_allowed(folder, selection), failed, even_the_last=True)
        if before and selection.allows(before.name, before.version) and (found is None or _is_broken(before, failed)):
            return before
        return found

    def _read_newest(self, folder: ModelFolder, failed: Failed, *, even_the_last: bool = False) -> Artifact | None:
        """The highest version that can be read; why those above cannot goes to `failed`."""
        for directory in folder.versions:
            try:
                artifact = self._read_files(directory)
                if even_the_last or directory != folder.versions[-1]:
                    self.check(artifact)
            except ArtifactError as error:
                failed[folder.name, directory.name] = str(error)
            else:
                return artifact
        return None


def _allowed(folder: ModelFolder, selection: Selection) -> ModelFolder:
    """The folder with the versions that may be served."""
    versions = tuple(path for path in folder.versions if selection.allows(folder.name, int(path.name)))
    return replace(folder, versions=versions)


def _is_broken(artifact: Artifact, failed: Failed) -> bool:
    """Whether what is served could not be read again."""
    return (artifact.name, str(artifact.version)) in failed


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
    try:
        return _list_models(repository)
    except OSError as error:  # a mount that fails does so anywhere
        raise RepositoryError(
            f"the model repository {repository} cannot be read: {error.strerror}; it must be a folder that you may read"
        ) from error


def _list_models(repository: Path) -> list[ModelFolder]:
    if not repository.is_dir():
        raise RepositoryError(
            f"the model repository {repository} is no directory: give a folder of <model>/<version>/model.onnx"
        )
    paths = sorted(path for path in repository.iterdir() if _may_be_model(path))
    folders = [_list_versions(path) for path in paths]
    if not any(folder.versions for folder in folders):
        if meant := _repositories_around(repository):
            raise RepositoryError(f"no models in {repository}, but in {meant[0]}: give that folder")
        problems = "".join(f"; {folder.problem}" for folder in folders)
        raise RepositoryError(
            f"no models in {repository}: expected <model>/<version>/model.onnx; make one with `resnet-train export`"
            f"{problems}"
        )
    return folders


def _repositories_around(folder: Path) -> list[Path]:
    """Repositories right below this folder, or above it if it is a model's folder or a version's."""
    found = [path for path in sorted(folder.iterdir()) if any(path.glob("*/[0-9]*/model.onnx"))]
    folder = folder.absolute()
    if any(folder.glob("[0-9]*/model.onnx")):
        found.append(folder.parent)
    if folder.name.isdecimal() and (folder / "model.onnx").exists():
        found.append(folder.parent.parent)
    return found


def _may_be_model(path: Path) -> bool:
    """Whether a model is probably meant: a folder, or a network's file in the place of its folder."""
    if path.name.startswith(".") or path.name == "lost+found":
        return False
    return path.suffix in ("", ".onnx", ".safetensors") or not path.is_file()


def _list_versions(path: Path) -> ModelFolder:
    name = printable(path.name)
    try:
        versions = [entry for entry in path.iterdir() if entry.name.isdecimal() and int(entry.name) > 0]
    except NotADirectoryError:
        return ModelFolder(name, (), printable(f"{path}: is a file, not a folder of versions"))
    except OSError as error:
        return ModelFolder(name, (), printable(f"{path}: cannot be read: {error}"))
    versions.sort(key=lambda entry: int(entry.name), reverse=True)
    problem = "" if versions else f"{path}: no version in it; expected a folder such as {name}/1 with model.onnx"
    return ModelFolder(name, tuple(versions), printable(problem))


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
    flags = "--default-model, or --model of `predict`"
    raise RepositoryError(f"{repository} holds several models; choose one by {flags}: {choices}")
