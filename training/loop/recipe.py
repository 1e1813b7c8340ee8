"""The settings of a training run, one TOML file each."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import to_json

from models.networks import registry
from models.validation import STRICT, explain
from training.errors import RecipeError
from training.loop.augment import Affine, CropFlip, ResizedCrop
from training.loop.schedule import SmoothSchedule, StepSchedule
from training.options import PrecisionChoice

SHIPPED = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes that come with this."""


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Optimizer:
    """Stochastic gradient descent.

    Attributes:
        learning_rate: rate at the schedule's peak.
        momentum: share of the velocity that is kept at each step.
        nesterov: whether the gradient is that ahead of the velocity.
        weight_decay: pull of weights towards 0, times the learning rate.
        decay: the weights that are pulled; `weights` leaves out biases and the parameters of normalisation.

    """

    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0)]
    decay: Literal["all", "weights"]

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead by the momentum, which is 0: give a momentum, or nesterov = false")


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Recipe:
    """What to train, how long and how.

    Attributes:
        architecture: name in `models.networks.registry`.
        arguments: what its builder is given beyond the class count.
        epochs: passes over the training images.
        batch_size: images a step; the last, smaller batch of an epoch is left out.
        validation: fraction of the training data held back to judge by; 0 trains on everything.
        label_smoothing: probability mass spread over all classes.
        average: largest decay, a step, of the moving average of the weights, which is kept where it is better on the
            images held back than the raw ones; None keeps the raw ones.
        image_size: side in pixels that the pictures of an image folder get, the shorter side resized and the centre
            cropped; None is what the network was designed for.
        crop: side in pixels of the centre of such a picture that the network is judged and served on, such as 224 of
            an `image_size` of 256 for ImageNet; None is all of it. Training has the whole picture, of which its
            augmentation takes a part.
        precision: precision of convolutions and products while training; `auto` is bf16 where the CPU has instructions
            for it. Weights, evaluation and the released model are fp32 in any case.
        start: checkpoint, or directory of a released model, whose weights the run starts from. Its network and
            normalisation take the place of the recipe's own.
        body_rate: what the learning rate of all layers but the last is multiplied with, if there is a `start`.
        freeze: train the last layer alone, if there is a `start`; the others keep weights and batch statistics.
        augmentation: what is done to training images, if anything.

    """

    architecture: str
    arguments: dict[str, str] = Field(default_factory=dict)
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    validation: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    image_size: Annotated[int, Field(ge=1, le=65_535)] | None = None
    crop: Annotated[int, Field(ge=1)] | None = None
    precision: PrecisionChoice = "auto"
    start: str | None = None
    body_rate: Annotated[float, Field(gt=0)] = 1.0
    freeze: bool = False
    optimizer: Optimizer
    schedule: Annotated[SmoothSchedule | StepSchedule, Field(discriminator="kind")]
    augmentation: Annotated[Affine | CropFlip | ResizedCrop, Field(discriminator="kind")] | None = None

    def __post_init__(self) -> None:
        if self.crop is not None and (self.image_size is None or self.crop > self.image_size):
            raise ValueError(
                f"crop is {self.crop} and image_size {self.image_size}: an image_size of at least the crop is needed"
            )

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> "Recipe":
        """Check and convert a table of settings; RecipeError names each that is unknown, missing or out of range."""
        try:
            return _ADAPTER.validate_json(to_json(table))  # strict Python input would want objects, not tables
        except ValidationError as error:
            raise RecipeError(explain(error, "recipe")) from error

    def changed(
        self,
        epochs: int | None,
        architecture: str | None,
        arguments: list[str],
        precision: PrecisionChoice | None = None,
    ) -> "Recipe":
        """Return it with what the command line says instead: `arguments` are words key=value; RecipeError."""
        try:
            values = registry.parse_arguments(arguments)
        except registry.ArchitectureError as error:
            raise RecipeError(str(error)) from error
        return replace(
            self,
            epochs=epochs or self.epochs,
            architecture=architecture or self.architecture,
            arguments=(self.arguments if architecture is None else {}) | values,
            precision=precision or self.precision,
        )

    def stepping(self, rate: float | None, batch_size: int | None) -> "Recipe":
        """Return it with the command line's learning rate at the schedule's peak and images a step."""
        optimizer = replace(self.optimizer, learning_rate=rate or self.optimizer.learning_rate)
        return replace(self, optimizer=optimizer, batch_size=batch_size or self.batch_size)

    def fine_tuned(self, start: str | None, body_rate: float | None, freeze: bool) -> "Recipe":
        """Return it with what the command line says of where to start; RecipeError if that misses its start."""
        recipe = replace(
            self,
            start=start or self.start,
            body_rate=self.body_rate if body_rate is None else body_rate,
            freeze=freeze or self.freeze,
        )
        if recipe.start is None and (recipe.freeze or recipe.body_rate != 1):
            raise RecipeError(
                "a frozen or slower body needs weights to start from: give --from CHECKPOINT|ARTIFACT-DIR"
            )
        return recipe

    def differences(self, before: "Recipe") -> Iterator[str]:
        """Yield each setting that is another than before, with both values."""
        ours, theirs = _flat(self.to_table()), _flat(before.to_table())
        for name in sorted(ours.keys() | theirs.keys()):
            was, is_now = theirs.get(name, "not set"), ours.get(name, "not set")
            if was != is_now:
                yield f"{name}: it was {was}, now it is {is_now}"

    def to_table(self) -> dict[str, Any]:
        """Return all settings, defaults included, as plain values; `from_table` gives back an equal recipe."""
        table: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return table


_ADAPTER = TypeAdapter(Recipe)


def _flat(table: dict[str, Any], place: str = "") -> dict[str, Any]:
    """The settings of a table and of those in it, by names such as optimizer.learning_rate."""
    values: dict[str, Any] = {}
    for name, value in table.items():
        values |= _flat(value, f"{place}{name}.") if isinstance(value, dict) else {f"{place}{name}": value}
    return values


def load_recipe(name: str) -> Recipe:
    """Return a recipe given by the name of a shipped one or the path of a file; RecipeError if it is none."""
    if name.endswith(".toml"):
        return _recipe(Path(name), _read(Path(name)))
    tables = shipped()
    if name not in tables:
        raise RecipeError(f"no recipe {name!r}; shipped are {', '.join(tables)}, or give the path of a .toml file")
    path, table = tables[name]
    return _recipe(path, table)


def shipped() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Return the file and the settings of each recipe that comes with this, by name.

    A file named after its architecture may list others as its `family`: `resnet20-fast.toml`, whose family has
    resnet56, is `resnet56-fast` too.
    """
    recipes = {}
    for path in sorted(SHIPPED.glob("*.toml")):
        table = _read(path)
        recipes[path.stem] = path, table
        for member in table.get("family", ()):
            recipes[member + path.stem.removeprefix(table["architecture"])] = path, table | {"architecture": member}
    return recipes


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise RecipeError(
            f"{path} cannot be read: {error.strerror}; give the path of a recipe, or the name of a shipped one"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"{path} is no TOML: {error}; mend it, as those in training/recipes are written") from error


def _recipe(path: Path, table: dict[str, Any]) -> Recipe:
    settings = {key: value for key, value in table.items() if key != "family"}  # names other networks, sets nothing
    try:
        return Recipe.from_table(settings)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
