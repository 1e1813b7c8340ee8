import re

import pytest
from torchvision.models import get_model_weights

from models.networks import registry
from training.errors import RecipeError
from training.loop.recipe import SHIPPED, Recipe, load_recipe

NOT_RUN = {"cifar10-resnet18", "resnet110-paper", "resnet18-imagenet", "resnet20-paper", "resnet50-imagenet-232"}

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
    recipe = load_recipe(file.stem)
    assert recipe.architecture in registry.names()
    header = re.match(r"(#.*\n)+", file.read_text())
    assert header
    assert f"resnet-train fit {file.stem}" in header[0]
    assert ("Not run to the end here." in header[0]) == (file.stem in NOT_RUN)
    for told in (r"\d\d\.\d+ %", r"\d+ (s|min)", r"core"):
        assert file.stem in NOT_RUN or re.search(told, header[0]), f"it does not tell {told}"


def test_path_is_a_recipe_too(path):
    recipe = load_recipe(str(path))
    assert (recipe.epochs, recipe.optimizer.weight_decay, recipe.schedule.kind) == (2, 5e-4, "one-cycle")
    assert recipe.augmentation is not None
    assert (recipe.augmentation.rotation, recipe.augmentation.shift) == (10, 0)


def test_table_gives_back_an_equal_recipe(path):
    recipe = load_recipe(str(path))
    assert Recipe.from_table(recipe.to_table()) == recipe


def test_falling_milestones_are_refused(path):
    path.write_text(TEXT.replace('"one-cycle"\nwarmup = 0.3', '"steps"\nmilestones = [0.75, 0.5]'))
    with pytest.raises(RecipeError, match="they must be in rising order"):
        load_recipe(str(path))


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
        ("rotation = 10", "rotation = inf", r"augmentation\.affine\.rotation: .*finite"),
        ("momentum = 0.9", "momentum = 0.0", r"optimizer: nesterov looks ahead by the momentum, which is 0"),
        ('"one-cycle"', '"triangle"', r"schedule: .*'cosine'"),
        ("validation = 0.1", "validation = 1", r"validation: .*less than 1"),
        ("epochs = 2", "epochs = ", r"is no TOML: Invalid value.*; mend it"),
    ],
)
def test_mistake_is_named_with_its_place(path, old, new, told):
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(RecipeError, match=told) as error:
        load_recipe(str(path))
    assert str(path) in str(error.value)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(RecipeError, match=r"no recipe 'mnist'; shipped are .*mnist-residual"):
        load_recipe("mnist")


def test_missing_file_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match=r"absent\.toml cannot be read: No such file or directory; give the path"):
        load_recipe(str(tmp_path / "absent.toml"))


def test_every_cifar_network_has_the_fast_recipe_and_the_papers():
    for architecture in (f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110)):
        fast, paper = load_recipe(f"{architecture}-fast"), load_recipe(f"{architecture}-paper")
        assert fast.architecture == paper.architecture == architecture
        assert fast.epochs <= 30
        assert (paper.batch_size, paper.optimizer.learning_rate, paper.optimizer.weight_decay) == (128, 0.1, 1e-4)
        iterations = paper.epochs * (45_000 // 128)
        assert iterations == pytest.approx(64_000, rel=0.005)
        factors = [paper.schedule.factor(step / 64_000) for step in (1000, 31_900, 32_100, 47_900, 48_100)]
        assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])
        assert paper.schedule.factor(399 / 64_000) == (0.1 if architecture.endswith("110") else 1)


IMAGENET = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)] + ["plain18", "plain34"]


@pytest.mark.parametrize("architecture", IMAGENET)
def test_every_imagenet_network_has_torchvisions_recipe(architecture):
    """Its V1: --lr 0.1 --batch-size 32 on 8 GPUs --epochs 90 --lr-step-size 30 --lr-gamma 0.1 --wd 1e-4."""
    recipe = load_recipe(f"{architecture}-imagenet")
    assert (recipe.architecture, recipe.epochs, recipe.batch_size) == (architecture, 90, 8 * 32)
    assert (recipe.label_smoothing, recipe.average) == (0, None)
    optimizer = recipe.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.1, 0.9, 1e-4)
    assert (optimizer.nesterov, optimizer.decay) == (False, "all")
    steps = 1_281_167 // 256
    rates = [recipe.schedule.factor(epoch * steps / (90 * steps)) for epoch in range(90)]
    assert rates == pytest.approx([1] * 30 + [0.1] * 30 + [0.01] * 30)
    assert recipe.augmentation is not None
    assert (recipe.augmentation.least_area, recipe.augmentation.aspect) == (0.08, 4 / 3)


@pytest.mark.parametrize("depth", [50, 101, 152])
@pytest.mark.parametrize(("suffix", "version", "trained"), [("", "V1", 224), ("-232", "V2", 176)])
def test_imagenet_recipes_judge_as_torchvision_evaluates(depth, suffix, version, trained):
    preset = get_model_weights(f"resnet{depth}")[f"IMAGENET1K_{version}"].transforms()
    recipe = load_recipe(f"resnet{depth}-imagenet{suffix}")
    assert ([recipe.image_size], [recipe.crop]) == (preset.resize_size, preset.crop_size)
    assert recipe.augmentation is not None
    assert recipe.augmentation.size == trained


@pytest.mark.parametrize("text", ["crop = 224", "image_size = 128\ncrop = 224"])
def test_crop_of_less_than_itself_is_refused(path, text):
    path.write_text(text + TEXT)
    with pytest.raises(RecipeError, match="an image_size of at least the crop is needed"):
        load_recipe(str(path))


def test_networks_name_in_place_of_the_recipes():
    recipe = load_recipe("resnet56-paper").changed(epochs=3, architecture=None, arguments=["shortcut=B"])
    assert (recipe.architecture, recipe.arguments, recipe.epochs) == ("resnet56", {"shortcut": "B"}, 3)
    other = recipe.changed(epochs=None, architecture="resnet18", arguments=[])
    assert (other.architecture, other.arguments, other.epochs) == ("resnet18", {}, 3)
    with pytest.raises(RecipeError, match="key=value"):
        recipe.changed(epochs=None, architecture=None, arguments=["B"])


def test_the_command_line_sets_rate_and_batch_size():
    recipe = load_recipe("resnet18-imagenet")
    changed = recipe.stepping(0.01, 32)
    assert (changed.optimizer.learning_rate, changed.batch_size) == (0.01, 32)
    assert changed.stepping(0.1, 256) == recipe == recipe.stepping(None, None)
