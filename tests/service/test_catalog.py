"""The catalog of a repository: which model answers `/predict`, and which a request names."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from models.artifact.artifact import read_artifact
from service.errors import NotFound
from service.repository import ZOO, ZOO_DEFAULT, Catalog, RepositoryError, read_repository


def copy(repository: Path, tmp_path: Path, *names: str) -> Path:
    """A repository of some models of another."""
    for name in names:
        shutil.copytree(repository / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("models", "wanted", "says"),
    [
        (["plain", "colour"], None, "--default-model one of: colour, plain"),
        (["plain", "colour"], "zebra", "no model 'zebra' .*: colour, plain"),
        (["plain", "damaged"], "damaged", "the default model cannot be served: .*SHA-256"),
    ],
    ids=["several and none chosen", "one that is not there", "one that cannot be read"],
)
def test_a_default_model_that_cannot_be_chosen_is_an_error(
    repository: Path, tmp_path: Path, models: list[str], wanted: str | None, says: str
) -> None:
    with pytest.raises(RepositoryError, match=says):
        read_repository(copy(repository, tmp_path, *models), wanted)


def test_the_only_model_is_the_default_and_the_zoo_has_its_own(repository: Path, tmp_path: Path) -> None:
    only, zoo = read_repository(copy(repository, tmp_path, "colour"), None), read_repository(ZOO, None)
    assert only.artifacts[only.default].name == "colour"
    assert len(zoo.artifacts) > 1
    assert zoo.artifacts[zoo.default].name == ZOO_DEFAULT


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [(None, None, "plain"), ("colour", None, "colour"), ("colour", "1", "colour"), ("plain", "2", "plain")],
)
def test_models_are_found_by_name_and_version(
    repository: Path, tmp_path: Path, name: str | None, version: str | None, found: str
) -> None:
    catalog = read_repository(copy(repository, tmp_path, "colour", "plain"), "plain")
    assert catalog.artifacts[catalog.find(name, version)].name == found


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [("zebra", None, "no model 'zebra' here; served are: colour, plain"), ("plain", "1", "no version 1 of plain.*: 2")],
)
def test_what_is_not_served_is_not_found_and_what_is_is_told(
    repository: Path, tmp_path: Path, name: str, version: str | None, says: str
) -> None:
    catalog = read_repository(copy(repository, tmp_path, "colour", "plain"), "plain")
    with pytest.raises(NotFound, match=says):
        catalog.find(name, version)


def test_what_is_beside_the_graph_can_be_let_go(repository: Path) -> None:
    artifact = read_artifact(repository / "colour" / "1")
    both = replace(artifact, weights=b"much", int8=replace(artifact, model=b"less"))
    catalog = Catalog((artifact, both), {("other", 1): "why"}, 1)
    assert catalog.keeping(weights=True, int8=True) == catalog
    assert catalog.keeping(weights=False, int8=True).artifacts[1] == replace(both, weights=None)
    assert catalog.keeping(weights=False, int8=False) == replace(catalog, artifacts=(artifact, artifact))
