"""The training loop: the steps of an epoch, and the state from which a run goes on."""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.data.dataset import ImageSet, Normalization
from training.errors import Diverged
from training.loop.device import has_bf16
from training.loop.distributed import Ranks
from training.loop.pretrained import HEAD, body_rate_of, freeze
from training.loop.recipe import Recipe
from training.loop.scoring import Score

_ADVICE = ": lower the learning rate or lengthen the warm-up"


@dataclass(slots=True)
class Progress:
    """How far a run is: finished epochs, steps into the current one, and sums over the images of those steps."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, int | float]] = field(default_factory=list)


class Trainer:
    """A network on its way through a recipe.

    All that is random, the order of the images and their augmentation, is drawn afresh from (seed, epoch, step): a run
    that goes on from `state` meets the same images and ends with the same bits as one that was never interrupted.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        images: ImageSet,
        normalization: Normalization,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        # Channels last and bf16 take half the time of their opposites on a CPU of AVX-512.
        self.network = network.to(self.ranks.device).to(memory_format=torch.channels_last)
        self.recipe, self.images, self.normalization, self.seed = recipe, images, normalization, seed
        if recipe.freeze:
            freeze(network)
        self.optimizer = _optimizer(network, recipe)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.average = _average(network, recipe.average)
        self.bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16(self.ranks.device))
        self.batch_size = min(recipe.batch_size, len(images))
        self.epoch_steps = len(images) // self.batch_size
        self.progress = Progress()

    @property
    def judged(self) -> nn.Module:
        """The network that is scored and kept: with the averaged weights, if the recipe averages."""
        return self.network if self.average is None else self.average.module

    def steps(self) -> Iterator[Progress]:
        """Train through the rest of the epoch, yielding after each step; Diverged if the loss is not finite."""
        progress = self.progress
        order = torch.randperm(len(self.images), generator=_generator(self.seed, progress.epoch, 0))
        self._train_mode()
        while progress.step < self.epoch_steps:
            started = time.perf_counter()
            first = progress.step * self.batch_size
            self._step(order[first : first + self.batch_size])
            progress.seconds += time.perf_counter() - started
            yield progress

    def finish_epoch(self, score: Score | None) -> dict[str, int | float]:
        """Close the epoch: its figures, with those of the held-back images if any, join the history."""
        sums = self.progress
        figures: dict[str, int | float] = {
            "epoch": sums.epoch + 1,
            "loss": sums.loss / sums.images,
            "accuracy": sums.correct / sums.images,
            "images_per_second": sums.images / sums.seconds,
            "seconds": sums.seconds,
        }
        if score is not None:
            figures |= {"validation_loss": score.loss, "validation_accuracy": score.accuracy}
        self.progress = Progress(epoch=sums.epoch + 1, history=[*sums.history, figures])
        return figures

    def state(self) -> dict[str, Any]:
        """Return all that `load` needs to go on to the same bits; Diverged if a weight is not finite."""
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise Diverged(f"a weight is no longer finite{_ADVICE}")
        return {
            "progress": dataclasses.asdict(self.progress),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),  # for networks with dropout
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the state of a trainer of the same network, recipe, images and seed."""
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])

    def _train_mode(self) -> None:
        frozen = self.recipe.freeze
        self.network.train(not frozen)  # batch norm that trains would forget the statistics it has
        if frozen:
            self.network.get_submodule(HEAD).train()

    def _step(self, indices: Tensor) -> None:
        progress, recipe, ranks = self.progress, self.recipe, self.ranks
        done = (progress.epoch * self.epoch_steps + progress.step) / (recipe.epochs * self.epoch_steps)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * recipe.schedule.factor(done)
        inputs, labels = self._batch(indices)
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.network(inputs).float()
        # Parts weigh by their images, so that their losses and gradients add up to those of the whole batch.
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing) * (len(labels) / len(indices))
        hits = (logits.argmax(1) == labels).sum()
        value, correct = ranks.total(torch.stack([loss.detach().double(), hits.double()])).tolist()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} in epoch {progress.epoch + 1}, step {progress.step + 1}{_ADVICE}")
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        ranks.sum_gradients(self.network)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        progress.step += 1
        progress.loss += value * len(indices)
        progress.correct += int(correct)
        progress.images += len(indices)

    def _batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """This process's part of the images at these indices, ready for the network, and its labels.

        What happens to the images is drawn for all of them: it does not depend on how many processes there are.
        """
        ranks, augmentation, progress = self.ranks, self.recipe.augmentation, self.progress
        part = self.images.take(ranks.part(indices))
        images = part.images.to(ranks.device).float()
        if augmentation is not None:
            generator = _generator(self.seed, progress.epoch, 1 + progress.step)
            amounts = ranks.part(augmentation.draw(indices, progress.epoch, generator)).to(ranks.device)
            with ranks.device:
                images = augmentation.apply(images, amounts)
        inputs = self.normalization(images).contiguous(memory_format=torch.channels_last)
        return inputs, part.labels.to(ranks.device)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    settings = recipe.optimizer
    return torch.optim.SGD(
        _groups(network, recipe),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        fused=True,
    )


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters that decay and those that do not; in fine-tuning those of the head first, then the body's."""
    settings = recipe.optimizer
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {
        (rate, decays): [] for rate in dict.fromkeys((1.0, recipe.body_rate)) for decays in (True, False)
    }
    for name, parameter in network.named_parameters():
        decays = settings.decay == "all" or parameter.ndim > 1  # biases and normalisation have one dimension
        if parameter.requires_grad:
            groups[body_rate_of(name, recipe.body_rate), decays].append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate * settings.learning_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (rate, decays), parameters in groups.items()
    ]


def _average(network: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]


def _generator(*place: int) -> Generator:
    """A generator of its own for each place; SeedSequence keeps neighbouring places independent."""
    low, high = np.random.SeedSequence(place).generate_state(2).tolist()
    return Generator().manual_seed(high << 32 | low)
