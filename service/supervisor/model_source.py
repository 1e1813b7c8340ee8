"""Which models a change leads to: what the repository holds, what is decided, and what this server has room for."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.engines.selection import Choice
from models.machine.memory import usable_memory
from service.catalog.catalog import Catalog, Identity, identity
from service.catalog.repository import Repository, RepositoryError, list_models, signed_by
from service.catalog.selection import Selection
from service.catalog.shadow_version import add_shadow
from service.config.settings import Settings
from service.ipc.channels import Channels
from service.ipc.control import ModelChange
from service.metrics.metrics import Metrics
from service.policy import LEAST_BYTES, LEAST_WORKER_BYTES
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.remote.fetch import LocalRepository, fetch
from service.worker.trial import Selector

log = structlog.get_logger()

LoadFailures = dict[Identity, str]
"""Why workers could not load a version."""


def least_memory(settings: Settings, workers: int, *catalogs: Catalog) -> int:
    """Bytes below which a server certainly does not work that has so many workers for each of these catalogs."""
    loaded = [(catalog, catalog.pinned if settings.memory_budget else catalog.numbers) for catalog in catalogs]
    networks = (sum(len(catalog[number].model) for number in numbers) for catalog, numbers in loaded)
    return LEAST_BYTES + workers * sum(LEAST_WORKER_BYTES + size for size in networks)


def fetch_models(settings: Settings) -> LocalRepository:
    """The repository of the settings; RepositoryError if there is none. What could not be had is logged."""
    repository = fetch(settings.model_repository, settings.cache_dir, settings.fetch_timeout)
    for problem in repository.problems:
        log.error("repository", place=settings.model_repository, reason=problem)
    return repository


class Found(NamedTuple):
    """Models that are to be served, and how each is run where there was a choice."""

    catalog: Catalog
    choices: Mapping[tuple[str, int], Choice]


class ModelSource:
    """Finds the models of a change; it is called in the processes that read the repository."""

    def __init__(self, settings: Settings, channels: Channels, metrics: Metrics, placement: Placement) -> None:
        self._settings, self._metrics, self._placement = settings, metrics, placement
        self._input_bytes, self._classes = channels.slot_pool.input_bytes, channels.slot_pool.classes
        self._workers = channels.workers
        self._check_origin = signed_by(settings.require_signature)

    def fetch(self) -> Path:
        """The folder with the models, whose problems are counted; RepositoryError if there is none."""
        try:
            repository = fetch_models(self._settings)
        except RepositoryError:
            self._metrics.repository_problems.set(1)
            raise
        self._metrics.repository_problems.set(len(repository.problems))
        return repository.folder

    def find(self, models: ModelSet, selection: Selection, change: ModelChange, load_failures: LoadFailures) -> Found:
        """What is to be served in place of these models; RepositoryError or NotFound if nothing is."""
        folder = self.fetch()
        served = replace(models.catalog, artifacts=tuple(models.files))
        if change.action == "promote":
            _check_shadow(served, change)
        names_target = change.action in ("load", "promote", "restore")
        if names_target:
            _check_target(folder, change)
            selection = selection.load(change.model, change.version)  # exactly this version, not a newer one
        elif change.model:
            served.find(change.model, None)
        repository = Repository(folder, partial(self._check, load_failures), self._check_origin)
        catalog = repository.read_again(served, selection, change.model or None)
        reasons = [reason for (name, _), reason in catalog.failed.items() if name == change.model]
        if names_target and reasons:
            raise RepositoryError("; ".join(reasons))
        catalog = add_shadow(catalog, repository, selection)
        catalog = catalog.keeping(weights=self._placement.needs_weights, int8=self._placement.needs_int8)
        self._check_memory(served, catalog)
        return Found(catalog, self._choose(catalog, served, models.choices))

    def _check_memory(self, served: Catalog, new: Catalog) -> None:
        """Raise RepositoryError if old and new workers certainly have no room beside each other."""
        least = least_memory(self._settings, self._workers, served, new)
        if not new.same_models(served) and (usable := usable_memory()) < least:
            raise RepositoryError(
                f"there are {usable >> 20} MiB of memory, and {self._workers} old workers beside as many new ones need "
                f"more than {least >> 20}: allow the server more, or start it again with these models"
            )

    def _choose(
        self, catalog: Catalog, served: Catalog, choices: Mapping[tuple[str, int], Choice]
    ) -> dict[tuple[str, int], Choice]:
        """How each model is run; those that are served go on as they are."""
        before = set(map(identity, served.artifacts))
        new = [artifact for artifact in catalog.artifacts if identity(artifact) not in before]
        old = {(artifact.name, artifact.version) for artifact in catalog.artifacts if identity(artifact) in before}
        where = self._placement
        chosen = Selector(where.device, where.load, self._settings.start_timeout).choices(new)
        return {one: choice for one, choice in choices.items() if one in old} | chosen

    def _check(self, load_failures: LoadFailures, artifact: Artifact) -> None:
        """Raise ArtifactError if workers have failed to load this, or there is no room for its images and classes."""
        if reason := load_failures.get(identity(artifact)):
            raise ArtifactError(reason)
        height, width, channels = artifact.input_shape
        if (size := height * width * channels) > self._input_bytes:
            raise ArtifactError(
                f"its input of {height} x {width} x {channels} takes {size} bytes, and there is room for "
                f"{self._input_bytes}: start the server with --largest-input {size}"
            )
        if artifact.classes > self._classes:
            raise ArtifactError(
                f"it has {artifact.classes} classes, and there is room for {self._classes}: start the server with "
                f"--most-classes {artifact.classes}"
            )


def _check_shadow(served: Catalog, change: ModelChange) -> None:
    """Raise RepositoryError unless this version is the shadow that is served."""
    shadow = None if served.shadow is None else served[served.shadow]
    if shadow is None or (shadow.name, shadow.version) != (change.model, change.version):
        found = f"it is {shadow.name}/{shadow.version}" if shadow else "there is none"
        raise RepositoryError(
            f"{change.model}/{change.version} is not the shadow: {found}; a version that is none is loaded instead"
        )


def _check_target(repository: Path, change: ModelChange) -> None:
    """Raise RepositoryError unless the repository has the model, and the version if one is named."""
    folders = {folder.name: folder for folder in list_models(repository)}
    if change.model not in folders:
        raise RepositoryError(f"no model {change.model!r} in the repository, which holds: {', '.join(folders)}")
    versions = [path.name for path in folders[change.model].versions]
    if change.version is not None and str(change.version) not in versions:
        raise RepositoryError(
            f"no version {change.version} of {change.model} in the repository, which holds: {', '.join(versions)}"
        )
