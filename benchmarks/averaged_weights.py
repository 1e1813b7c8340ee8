"""What training keeps, beside the better of its raw and its averaged weights, on few pictures and on many.

    python -m benchmarks.averaged_weights --data FOLDER [--recipes NAME ...] [--images N ...] [--epochs N]

FOLDER holds CIFAR-10 as train/ and test/ or archives of those. Each shipped recipe that averages weights is trained on
50, 500 and 5,000 of its training images, of which it holds back its share; the other recipes keep the only weights that
they have. `resnet20-fast --freeze` trains a new last layer of the released cifar10-resnet20 for six of the classes. At
the end raw and averaged weights, and the checkpoints, are measured on test images. --epochs is for runs that would take
too long: with fewer steps the averaged weights have more of the first ones in them. A run that the results hold is not
repeated; each tells the revision that made it. Writes benchmarks/results/averaged_weights.json after each run.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from benchmarks.result_file import write_result
from benchmarks.surroundings import RESULTS, ROOT, training_surroundings
from models.networks import registry
from training.data import sources
from training.data.dataset import ImageSet, hold_out, measure
from training.data.preprocessing_spec import spec_of_files
from training.loop.checkpoint import read_checkpoint
from training.loop.pretrained import read_pretrained
from training.loop.recipe import Recipe, load_recipe, shipped
from training.loop.run import BEST, LAST, Run
from training.loop.scoring import score_network
from training.loop.trained_network import build_network

SIZES = (50, 500, 5_000)
TEST_IMAGES = 2_000
SIDE = 32
FROZEN = "resnet20-fast --freeze"
SIX_CLASSES = ("airplane", "automobile", "cat", "dog", "horse", "ship")
START = ROOT / "models" / "zoo" / "cifar10-resnet20" / "1"
ALLOWED = 0.02
RESULTS_FILE = RESULTS / "averaged_weights.json"


def recipes() -> list[str]:
    """The shipped recipes that average weights, one of each family, and the frozen one."""
    averaging = [name for name, (path, table) in shipped().items() if path.stem == name and "average" in table]
    return [*averaging, FROZEN]


def some(data: str, split: sources.Split, classes: tuple[str, ...] | None, count: int) -> ImageSet:
    """So many images of a split at random, the same each time, of these classes."""
    images = sources.load(data, Path(), split)
    names = classes or images.classes
    wanted = torch.tensor([name in names for name in images.classes])[images.labels].nonzero().flatten()
    order = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(0))[:count]
    chosen = images.take(wanted[order])
    decoded = chosen if isinstance(chosen, ImageSet) else chosen.decode(spec_of_files(3, SIDE))
    places = torch.tensor([names.index(name) if name in names else -1 for name in decoded.classes])
    return ImageSet(decoded.images, places[decoded.labels], names)


def measured(name: str, data: str, count: int, epochs: int | None) -> dict[str, Any]:
    """Train, for as many epochs as the recipe has or these, and measure all that could have been kept, and what was."""
    classes = SIX_CLASSES if name == FROZEN else None
    test = some(data, "test", classes, TEST_IMAGES)
    recipe = load_recipe(name.split()[0])
    recipe = replace(recipe, epochs=epochs or recipe.epochs)
    images, held_back = hold_out(some(data, "train", classes, count), recipe.validation)
    recipe, network, normalization = prepared(name, recipe, images)
    with TemporaryDirectory() as folder:
        run = Run(network, recipe, images, normalization, 0, held_back=held_back, folder=Path(folder), data="cifar10")
        run.train()
        assert run.average is not None
        kept = {kind: read_checkpoint(Path(folder) / kind) for kind in (LAST, BEST)}
    networks = {"raw": run.network, "averaged": run.average.module}
    for kind, checkpoint in kept.items():
        networks[kind] = build_network(recipe.architecture, recipe.arguments, len(images.classes), checkpoint.weights)
    found = {kind: score_network(each, test, normalization).accuracy for kind, each in networks.items()}
    steps = recipe.epochs * run.epoch_steps
    figures = {"images": count, "held_back": len(held_back), "epochs": recipe.epochs, "steps": steps}
    return {"recipe": name, **figures, **found}


def lost(row: dict[str, Any]) -> float:
    """How far what the run ends with is below the better of the two that it chose from."""
    return float(max(row["raw"], row["averaged"]) - row[LAST])


def prepared(name: str, recipe: Recipe, images: ImageSet) -> tuple[Recipe, nn.Module, Any]:
    """The recipe, a network with its first weights, and its normalisation."""
    torch.manual_seed(0)
    if name != FROZEN:
        return recipe, registry.build(recipe.architecture, classes=len(images.classes)), measure(images)
    start = read_pretrained(START)
    return replace(recipe, start=str(START), freeze=True), start.network(images.classes), start.normalization


def main() -> None:
    """Measure, write and print; exit code 1 if what is kept is more than two points worse."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.averaged_weights", description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipes", nargs="+", choices=recipes(), default=recipes())
    parser.add_argument("--images", nargs="+", type=int, default=SIZES)
    parser.add_argument("--epochs", type=int, help="if not the recipe's")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads(RESULTS_FILE.read_text())["runs"] if RESULTS_FILE.exists() else []
    for count in arguments.images:
        for name in arguments.recipes:
            if any((row["recipe"], row["images"]) == (name, count) for row in rows):
                continue
            row = measured(name, arguments.data, count, arguments.epochs)
            surroundings = training_surroundings("python -m benchmarks.averaged_weights --data FOLDER")
            rows.append({**row, "revision": surroundings.pop("revision")})
            document = {**surroundings, "runs": rows}
            write_result("averaged_weights", document)
            print(json.dumps(rows[-1]), flush=True)
    raise SystemExit(any(lost(row) > ALLOWED for row in rows))


if __name__ == "__main__":
    main()
