"""The models that are served, each by its number, and which one answers `/predict`."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace

from models.artifact.artifact import Artifact
from service.errors import NotFound

Identity = tuple[str, int, str, str]
"""Name, version, and the SHA-256 of each graph of a released model."""


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
        """The catalog with numbers that another one does not have."""
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
        """The catalog without the copies of networks that no engine will run: they would stay in memory."""
        kept = (
            replace(each, weights=each.weights if weights else None, int8=each.int8 if int8 else None)
            for each in self.artifacts
        )
        return replace(self, artifacts=tuple(kept))

    def without_files(self) -> "Catalog":
        """The catalog with what the models' files say, and no copy of them."""
        return replace(self, artifacts=tuple(map(_without_files, self.artifacts)))

    def pickle(self) -> bytes:
        """The catalog for another process of this server, without the models' files."""
        return pickle.dumps(self.without_files(), pickle.HIGHEST_PROTOCOL)

    @classmethod
    def unpickle(cls, data: bytes) -> "Catalog":
        """The catalog that `pickle` gave in another process of this server."""
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
            raise NotFound(f"no model {name[:80]!r} here; served are: {served}")
        if version is None:
            return max((i for i in versions.values() if i != self.shadow), key=lambda i: self[i].version)
        if version not in versions:
            raise NotFound(f"no version {version[:40]} of {name}; served are: {', '.join(sorted(versions, key=int))}")
        return versions[version]


def identity(artifact: Artifact) -> Identity:
    """Two versions that have the same are the same."""
    return artifact.name, artifact.version, artifact.sha256, artifact.int8.sha256 if artifact.int8 else ""


def _without_files(artifact: Artifact) -> Artifact:
    int8 = replace(artifact.int8, model=b"") if artifact.int8 else None
    return replace(artifact, model=b"", weights=None, int8=int8)
