"""Which version is served beside another of its model, as its shadow: it gets copies of images, and answers nobody."""

from dataclasses import asdict, replace

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from service.catalog.catalog import Catalog
from service.catalog.repository import Repository
from service.catalog.selection import Selection

_IN_THE_GRAPH = ("mean", "std")  # of the preprocessing: no pixel depends on them


def add_shadow(catalog: Catalog, repository: Repository, selection: Selection) -> Catalog:
    """The catalog with the shadow that is selected as its last model; what is wrong with that is listed as failed."""
    if selection.shadow is None or selection.shadow[0] in selection.unloaded:
        return catalog
    name, version = selection.shadow
    try:
        live = next((artifact for artifact in catalog.artifacts if artifact.name == name), None)
        if live is None:
            raise ArtifactError(f"no other version of {name} is served, and a shadow needs the images of one")
        artifact = repository.read_version(name, version)
        _check_pixels(artifact, live)
    except ArtifactError as error:
        return replace(catalog, failed={**catalog.failed, (name, str(version)): str(error)})
    number = catalog.numbers.stop
    return replace(catalog, artifacts=(*catalog.artifacts, artifact), shadow=number)


def _check_pixels(shadow: Artifact, live: Artifact) -> None:
    """Raise ArtifactError unless both make the same pixels of an image."""
    wanted, made = (asdict(artifact.metadata.preprocessing) for artifact in (shadow, live))
    differing = [field for field in made if made[field] != wanted[field] and field not in _IN_THE_GRAPH]
    if differing:
        found = ", ".join(f"{field} {wanted[field]} instead of {made[field]}" for field in differing)
        raise ArtifactError(
            f"as a shadow it gets the pixels that were made for version {live.version}, and its preprocessing has "
            f"{found}: load it in place of that version"
        )
