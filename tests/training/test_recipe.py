import re

import pytest

from models import registry
from training.errors import RecipeError
from training.recipe import SHIPPED, Recipe, find_recipe, read_recipe

TEXT = """
architecture = "mnist-residual"
epochs = 2
batch_size = 32
validation = 0.1

[optimizer]
learning_rate = 0.05
momentum = 0.9
nesterov = true
weight_decay = 5e-4
decay = "weights"

[schedule]
kind = "one-cycle"
warmup = 0.3

[augmentation]
kind = "affine"
rotation = 10
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.toml")), ids=lambda file: file.stem)
def test_shipped_recipe_is_valid_and_says_what_to_expect(file):
    recipe = read_recipe(find_recipe(file.stem))
    assert recipe.architecture in registry.names()
    header = re.match(r"(#.*\n)+", file.read_text())
    assert header
    assert f"resnet-train fit {file.stem}" in header[0]
    for told in (r"\d\d\.\d+ %", r"\d+ (s|min)", r"cores"):
        assert re.search(told, header[0]), f"the header does not tell {told}"


def test_path_is_a_recipe_too(path):
    recipe = read_recipe(find_recipe(str(path)))
    assert (recipe.epochs, recipe.optimizer.weight_decay, recipe.schedule.kind) == (2, 5e-4, "one-cycle")
    assert recipe.augmentation is not None
    assert (recipe.augmentation.rotation, recipe.augmentation.shift) == (10, 0)


def test_table_gives_back_an_equal_recipe(path):
    recipe = read_recipe(path)
    assert Recipe.from_table(recipe.to_table()) == recipe


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("epochs = 2", "epoch = 2", r"epochs: Field required; epoch: Unexpected"),
        ("nesterov = true", "nesterow = true", r"optimizer\.nesterow: Unexpected"),
        ("rotation = 10", "rotate = 10", r"augmentation\.affine\.rotate: Unexpected"),
        ("epochs = 2", "epochs = 0", r"epochs: .*greater than or equal to 1"),
        ("epochs = 2", 'epochs = "2"', r"epochs: .*integer"),
        ("epochs = 2", "epochs = 2.5", r"epochs: .*integer"),
        ("0.05", "nan", r"learning_rate: .*finite"),
        ('"one-cycle"', '"triangle"', r"schedule\.kind: .*'cosine'"),
        ("validation = 0.1", "validation = 1", r"validation: .*less than 1"),
        ("epochs = 2", "epochs = ", r"Invalid value"),
    ],
)
def test_mistake_is_named_with_its_place(path, old, new, told):
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError, match=told) as error:
        read_recipe(path)
    assert str(path) in str(error.value)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(RecipeError, match=r"no recipe 'mnist'; shipped are .*mnist-residual"):
        find_recipe("mnist")


def test_missing_file_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="no recipe"):
        find_recipe(str(tmp_path / "absent.toml"))
