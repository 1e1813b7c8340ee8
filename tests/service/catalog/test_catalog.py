"""The catalog of a repository: which model answers `/predict`, and which a request names."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.artifact.artifact import read_artifact
from service.catalog.catalog import Catalog
from service.catalog.repository import ZOO, ZOO_DEFAULT, Repository, RepositoryError
from service.errors import NotFound


def copy(repository: Path, tmp_path: Path, *names: str) -> Path:
    """A repository of some models of another."""
    for name in names:
        shutil.copytree(repository / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("models", "wanted", "says"),
    [
        (["plain", "colour"], None, "choose one by --default-model, or --model of `predict`: colour, plain"),
        (["plain", "colour"], "zebra", "no model 'zebra' .*: colour, plain"),
        (["plain", "damaged"], "damaged", "the default model cannot be served: .*SHA-256"),
    ],
    ids=["several and none chosen", "one that is not there", "one that cannot be read"],
)
def test_a_default_model_that_cannot_be_chosen_is_an_error(
    repository: Path, tmp_path: Path, models: list[str], wanted: str | None, says: str
) -> None:
    with pytest.raises(RepositoryError, match=says):
        Repository(copy(repository, tmp_path, *models)).read(wanted)


def test_the_only_model_is_the_default_and_the_zoo_has_its_own(repository: Path, tmp_path: Path) -> None:
    only, zoo = Repository(copy(repository, tmp_path, "colour")).read(None), Repository(ZOO).read(None)
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
    catalog = Repository(copy(repository, tmp_path, "colour", "plain")).read("plain")
    assert catalog.artifacts[catalog.find(name, version)].name == found


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("zebra", None, "no model 'zebra' here; served are: colour, plain"),
        ("plain", "1", "no version 1 of plain.*: 2"),
        ("z" * 999, None, "'z{80}'"),
        ("plain", "9" * 999, "version 9{40} of"),
    ],
)
def test_what_is_not_served_is_not_found_and_what_is_is_told(
    repository: Path, tmp_path: Path, name: str, version: str | None, says: str
) -> None:
    catalog = Repository(copy(repository, tmp_path, "colour", "plain")).read("plain")
    with pytest.raises(NotFound, match=says):
        catalog.find(name, version)


def test_what_is_beside_the_graph_can_be_let_go(repository: Path) -> None:
    artifact = read_artifact(repository / "colour" / "1")
    both = replace(artifact, weights=b"much", int8=replace(artifact, model=b"less"))
    catalog = Catalog((artifact, both), {("other", 1): "why"}, 1)
    assert catalog.keeping(weights=True, int8=True) == catalog
    assert catalog.keeping(weights=False, int8=True).artifacts[1] == replace(both, weights=None)
    assert catalog.keeping(weights=False, int8=False) == replace(catalog, artifacts=(artifact, artifact))


def test_numbers_of_catalogs_that_follow_each_other_differ_and_are_used_again(repository: Path) -> None:
    artifact = read_artifact(repository / "colour" / "1")
    first, second, third = (Catalog((artifact,) * n, {}, n - 1) for n in (3, 2, 3))
    second = second.beside(first)
    third = third.beside(second)
    fourth = first.beside(third)
    assert [list(one.numbers) for one in (first, second, third, fourth)] == [[0, 1, 2], [3, 4], [0, 1, 2], [3, 4, 5]]
    assert [one.default for one in (first, second, third, fourth)] == [2, 4, 2, 5]
    assert second[4] == second[second.find(None, None)] == artifact


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"model": b"", "weights": None}, True),
        ({"version": 2}, False),
        ({"sha256": "0"}, False),
        ({"name": "grey"}, False),
    ],
)
def test_a_catalog_is_the_same_if_names_versions_and_digests_are(
    repository: Path, change: dict[str, Any], same: bool
) -> None:
    artifact = read_artifact(repository / "colour" / "1")
    one = Catalog((artifact,), {}, 0)
    other = Catalog((replace(artifact, **change),), {("else", "1"): "why"}, 0)
    assert one.same_models(other) is same
    assert one.same_models(Catalog((artifact, artifact), {}, 0)) is False


def test_a_catalog_goes_to_another_process_without_its_files(repository: Path) -> None:
    catalog = Catalog((read_artifact(repository / "colour" / "1"),), {("else", "1"): "why"}, 0)
    sent = catalog.pickle()
    assert Catalog.unpickle(sent) == catalog.without_files()
    assert catalog.artifacts[0].model not in sent
