"""What models take in all workers, and what a budget has room for."""

from pathlib import Path

import pytest

from service.catalog.catalog import Catalog
from service.catalog.repository import Repository
from service.pools.model_sizes import ModelSizes

WORKERS = 3


@pytest.fixture
def catalog(repository: Path) -> Catalog:
    return Repository(repository).read("plain")


def test_a_model_takes_in_each_worker_the_most_that_any_has_measured(catalog: Catalog) -> None:
    sizes, (model, other) = ModelSizes(100, WORKERS, catalog), catalog.numbers[:2]
    for measured in (5, 7, 6):
        sizes.note(model, measured)
    assert [sizes.size(model), sizes.size(other), sizes.total((model, other))] == [21, 0, 21]


def test_what_was_measured_stays_known_when_models_have_other_numbers(catalog: Catalog) -> None:
    sizes, model = ModelSizes(100, WORKERS, catalog), catalog.numbers[0]
    sizes.note(model, 5)
    sizes.catalog = catalog.beside(catalog)
    assert sizes.catalog.first > model
    assert sizes.size(sizes.catalog.first) == 15


def test_what_is_always_loaded_has_room_in_any_budget_and_others_are_told_which_they_need(catalog: Catalog) -> None:
    sizes = ModelSizes(20, WORKERS, catalog)
    other = next(number for number in catalog.numbers if number != catalog.default)
    assert not sizes.is_too_large(other)
    sizes.note(catalog.default, 10)
    sizes.note(other, 1)
    assert sizes.room == sizes.pinned == 30
    assert [number for number in catalog.numbers if sizes.is_too_large(number)] == [other]
    why = sizes.why_too_large(other)
    assert "needs 3 bytes" in why
    assert "leaves 0 beside the default model:" in why
    assert why.endswith("--memory-budget 33")


def test_a_model_that_fits_to_the_byte_is_not_too_large(catalog: Catalog) -> None:
    other = next(number for number in catalog.numbers if number != catalog.default)
    for budget, is_too_large in ((33, False), (32, True)):
        sizes = ModelSizes(budget, WORKERS, catalog)
        sizes.note(catalog.default, 10)
        sizes.note(other, 1)
        assert sizes.is_too_large(other) is is_too_large
