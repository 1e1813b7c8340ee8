"""Which version is served as a shadow, and which is not because it could not be compared."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from service.catalog.catalog import Catalog
from service.catalog.repository import Repository, RepositoryError
from service.catalog.selection import UNDECIDED, Selection
from service.catalog.shadow_version import add_shadow
from service.errors import NotFound
from tests.artifacts import LABELS, make_artifact

SECOND = Selection(shadow=("main", 2))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shadows")
    for version in (1, 2, 3):
        make_artifact(path, "main", version, labels=LABELS[: 11 - version])
    make_artifact(path, "main", 4, shape=(8, 12, 1))
    make_artifact(path, "other", 1)
    return path


def accept(_: Artifact) -> None:
    """Every version may be served."""


def read(repository: Path, selection: Selection, check: Callable[[Artifact], None] = accept) -> Catalog:
    """As at a start with this selection, and the versions above 3 deleted."""
    selection = replace(selection, deleted=frozenset({("main", 4), ("main", 3)}))
    catalog = Repository(repository).read("main", selection=selection)
    return add_shadow(catalog, Repository(repository, check), selection)


def served(catalog: Catalog) -> list[tuple[str, int]]:
    return [(artifact.name, artifact.version) for artifact in catalog.artifacts]


def test_the_shadow_is_the_last_model_and_answers_only_who_names_its_version(repository: Path) -> None:
    catalog = read(repository, SECOND)
    assert served(catalog) == [("main", 1), ("other", 1), ("main", 2)]
    assert catalog.shadow == 2
    assert served(replace(catalog, artifacts=catalog.live, shadow=None)) == [("main", 1), ("other", 1)]
    assert catalog.find("main", None) == catalog.find(None, None) == 0
    assert catalog.find("main", "2") == 2
    with pytest.raises(NotFound, match="served are: 1, 2"):
        catalog.find("main", "3")
    beside = catalog.beside(Catalog((), {}, 0, first=0))
    assert (beside.default, beside.shadow) == (beside.first, beside.first + 2)


def test_a_shadow_is_another_set_of_models(repository: Path) -> None:
    with_it, without = read(repository, SECOND), read(repository, UNDECIDED)
    assert served(without) == [("main", 2), ("other", 1)]
    assert not with_it.same_models(without)
    assert not with_it.same_models(replace(with_it, shadow=None))
    assert with_it.same_models(read(repository, SECOND))


def test_while_it_is_reread_the_served_version_goes_on_and_other_models_change(repository: Path) -> None:
    before = read(repository, SECOND)
    found = Repository(repository).read_again(before, replace(SECOND, pinned={"main": 1}), "other")
    assert served(found) == [("main", 1), ("other", 1)]


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        (("main", 4), "height 12|width 12"),
        (("main", 9), "main/9"),
        (("zebra", 1), "no other version of zebra is served"),
        (("other", 1), "no other version of other is served"),
    ],
)
def test_what_cannot_be_one_is_listed_with_the_reason(repository: Path, shadow: tuple[str, int], says: str) -> None:
    selection = replace(SECOND, shadow=shadow)
    catalog = read(repository, selection)
    assert catalog.shadow is None
    name, version = shadow
    reason = catalog.failed[name, str(version)]
    assert any(part in reason for part in says.split("|")), reason


def test_what_the_check_says_is_the_reason(repository: Path) -> None:
    def refuse(artifact: Artifact) -> None:
        raise ArtifactError(f"no room for {artifact.version}")

    assert read(repository, SECOND, refuse).failed == {("main", "2"): "no room for 2"}


def test_a_model_that_is_unloaded_has_no_shadow(repository: Path) -> None:
    catalog = read(repository, Selection(unloaded=frozenset({"other"}), shadow=("other", 2)))
    assert (catalog.shadow, catalog.failed) == (None, {})


def test_a_default_model_needs_a_version_beside_its_shadow(repository: Path) -> None:
    with pytest.raises(RepositoryError, match="no version beside the shadow"):
        Repository(repository).read("other", selection=Selection(shadow=("other", 1)))
