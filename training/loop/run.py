"""A training run, read from the top: for each epoch, for each batch: step; then score and save."""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from training.data.class_names import differences_of_classes
from training.data.dataset import ImageSet, Normalization
from training.data.fingerprint import differences, fingerprint
from training.data.preprocessing_spec import spec_of_images
from training.errors import CheckpointError, Diverged
from training.loop.checkpoint import BEGIN_ANOTHER, Checkpoint, write_atomically, write_checkpoint
from training.loop.device import has_bf16
from training.loop.distributed import TrainingProcesses
from training.loop.interrupt import Interrupt
from training.loop.optimizer import freeze_body, make_optimizer, moving_average
from training.loop.progress import Figures, Observer, Progress
from training.loop.recipe import Recipe
from training.loop.scoring import Score, score_network
from training.loop.trained_network import HEAD

LAST, BEST, METRICS = "last.pt", "best.pt", "metrics.jsonl"
"""Names of the checkpoints and of the figures in a run's folder."""

SAVE_SECONDS = 30.0
"""Time between two checkpoints within an epoch: the most work, in seconds, that a killed run loses."""

_ADVICE = ": lower the learning rate or lengthen the warm-up"

_SETTLED = 50
"""Steps after which half a percent is left in batch norm's statistics of those that they begin with: 0.9^50."""

Metrics = dict[str, str | int | float]


class Run:
    """A network on its way through a recipe, with a folder that is kept up to date if one is given.

    `held_back` are the images that it is scored on after each epoch, `data` what checkpoints call the data set.

    All that is random, the order of the images and their augmentation, is drawn afresh from (seed, epoch, step): a run
    that goes on from a checkpoint meets the same images and ends with the same bits as one that was never interrupted.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        images: ImageSet,
        normalization: Normalization,
        seed: int,
        *,
        held_back: ImageSet | None = None,
        processes: TrainingProcesses | None = None,
        folder: Path | None = None,
        data: str = "",
    ) -> None:
        self.processes = processes or TrainingProcesses()
        self.device = self.processes.device
        # Channels last and bf16 take half the time of their opposites on a CPU of AVX-512.
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.recipe, self.images, self.normalization, self.seed = recipe, images, normalization, seed
        self.held_back, self.folder, self.data = held_back, folder, data
        sets = [images, *([held_back] if held_back else [])]
        self.fingerprints = [fingerprint(each) for each in sets] if folder is not None else None
        if recipe.freeze:
            freeze_body(network)
        self.optimizer = make_optimizer(network, recipe)
        self.average = moving_average(network, recipe.average)
        self.keeps_average = self.average is not None
        self.bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and has_bf16(self.device))
        self.batch_size = min(recipe.batch_size, len(images))
        self.epoch_steps = len(images) // self.batch_size
        self.progress = Progress()
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._forward = self.processes.with_exchange(self.network)

    def train(
        self,
        observer: Observer | None = None,
        interrupt: Interrupt | None = None,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        """Train to the recipe's end or a signal; Diverged leaves the last good checkpoint as it was."""
        observer, interrupt = observer or Observer(), interrupt or Interrupt()
        saved = time.monotonic()
        while self.progress.epoch < self.recipe.epochs:
            order = torch.randperm(len(self.images), generator=_generator(self.seed, self.progress.epoch, 0))
            self._train_mode()
            while self.progress.step < self.epoch_steps:
                first = self.progress.step * self.batch_size
                self._step(order[first : first + self.batch_size])
                observer.step_done(self.progress)
                interrupt.agreed = self.processes.agree(interrupt.noted)
                if interrupt.agreed is not None:
                    self._save(LAST)
                    return
                if time.monotonic() - saved >= save_seconds:
                    self._save(LAST)
                    saved = time.monotonic()

            self._end_epoch()
            saved = time.monotonic()
            observer.epoch_done(self.progress.history[-1])

    def _end_epoch(self) -> None:
        """Score what has been learned, and save it."""
        score, beside = self._choose()
        is_last = self.progress.epoch + 1 == self.recipe.epochs
        if is_last and score and not math.isfinite(score.loss):  # before, statistics of few steps may be to blame
            raise Diverged(f"the loss of the images held back is {score.loss}{self._advice()}")
        self.progress = self.progress.next_epoch(score, **beside)
        metrics = self._metrics(score)
        if self.held_back and self.progress.best(len(self.held_back)) is self.progress.history[-1]:
            self._save(BEST, metrics)
        self._save(LAST, metrics)
        self.write_metrics()

    def _advice(self) -> str:
        """What to do where the loss of training was finite to the end, and that of the images held back is not."""
        steps = self.recipe.epochs * self.epoch_steps
        if steps >= _SETTLED or self.recipe.freeze:
            return _ADVICE
        return f"{_ADVICE}, or take more steps than {steps}, with more epochs or smaller batches, for batch norm"

    def _step(self, indices: Tensor) -> None:
        """Set the rate, run forward and back, and move the weights, for the images at these indices."""
        started, progress, recipe = time.perf_counter(), self.progress, self.recipe
        done = (progress.epoch * self.epoch_steps + progress.step) / (recipe.epochs * self.epoch_steps)
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * recipe.schedule.factor(done)

        inputs, labels = self._batch(indices)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self._forward(inputs).float()
        # Parts weigh by their images, so that their losses and gradients add up to those of the whole batch.
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing) * (len(labels) / len(indices))
        hits = (logits.argmax(1) == labels).sum()
        value, correct = self.processes.total(torch.stack([loss.detach().double(), hits.double()])).tolist()
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value} in epoch {progress.epoch + 1}, step {progress.step + 1}{_ADVICE}")

        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.processes.sum_gradients(self.network)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)

        progress.add(len(indices), value, int(correct), time.perf_counter() - started)

    def _batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """This process's part of the images at these indices, ready for the network, and its labels.

        What happens to the images is drawn for all of them: it does not depend on how many processes there are.
        """
        processes, augmentation, progress = self.processes, self.recipe.augmentation, self.progress
        part = self.images.take(processes.part(indices))
        images = part.images.to(self.device).float()
        if augmentation is not None:
            generator = _generator(self.seed, progress.epoch, 1 + progress.step)
            amounts = processes.part(augmentation.draw(indices, progress.epoch, generator)).to(self.device)
            with self.device:
                images = augmentation.apply(images, amounts)
        inputs = self.normalization(images).contiguous(memory_format=torch.channels_last)
        return inputs, part.labels.to(self.device)

    def _train_mode(self) -> None:
        frozen = self.recipe.freeze
        self.network.train(not frozen)  # batch norm that trains would forget the statistics it has
        if frozen:
            self.network.get_submodule(HEAD).train()

    @property
    def kept(self) -> nn.Module:
        """The network that checkpoints hold: with the averaged weights, unless the raw ones were better at last."""
        return self.average.module if self.average is not None and self.keeps_average else self.network

    def score(self) -> Score | None:
        """Return how well what is kept does on the images held back, if any."""
        return self._score(self.kept)

    def _choose(self) -> tuple[Score | None, Figures]:
        """Keep the raw or the averaged weights, whichever are better on the images held back; their score, and both."""
        raw = self._score(self.network)
        if self.average is None or raw is None:
            return raw, {}
        averaged = self._score(self.average.module)
        assert averaged is not None
        self.keeps_average = not raw.is_better(averaged)
        both = {"raw_validation_accuracy": raw.accuracy, "averaged_validation_accuracy": averaged.accuracy}
        return (averaged if self.keeps_average else raw), {**both, "averaged": self.keeps_average}

    def _score(self, network: nn.Module) -> Score | None:
        """Each process looks at its part of the images held back."""
        if not self.held_back:
            return None
        self.processes.broadcast(network.buffers())
        part = self.processes.part
        held_back = ImageSet(part(self.held_back.images), part(self.held_back.labels), self.held_back.classes)
        return self.processes.merge(score_network(network, held_back, self.normalization))

    def _metrics(self, score: Score | None) -> Metrics:
        """What a checkpoint says of its weights at the end of an epoch."""
        if score is None or self.held_back is None:
            return {}
        what: Metrics = {"data": self.data, "split": "validation", "images": len(self.held_back)}
        if self.average is not None:
            what["weights"] = "averaged" if self.keeps_average else "raw"
        return what | {"accuracy": score.accuracy, "loss": score.loss, "epoch": self.progress.epoch}

    def checkpoint(self, metrics: Metrics) -> Checkpoint:
        """Return all that describes the run, its weights, and what `resume` needs.

        Diverged if a weight is not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.network.parameters()):
            raise Diverged(f"a weight is no longer finite{_ADVICE}")
        return Checkpoint(
            architecture=self.recipe.architecture,
            arguments=self.recipe.arguments,
            labels=self.images.classes,
            preprocessing=spec_of_images(self.images, self.normalization, self.recipe.crop),
            weights={key: value.contiguous() for key, value in self.kept.state_dict().items()},
            recipe=self.recipe.to_table(),
            data=self.data,
            seed=self.seed,
            metrics=metrics,
            state={
                "progress": asdict(self.progress),
                "network": self.network.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": torch.get_rng_state(),  # for networks with dropout
                **self._means(),
                "fingerprints": self.fingerprints,
            },
        )

    def resume(self, earlier: Checkpoint) -> None:
        """Go on from a checkpoint, to the same bits unless there are more epochs now.

        CheckpointError tells what else of all that shapes the run is not as it was.
        """
        if differing := list(self._differences(earlier)):
            told = "".join(f"\n  {each}" for each in differing)
            raise CheckpointError(
                f"the run was begun with other things than these:{told}\n"
                "give what it was begun with, or begin another run from what it has learned, by --from and --output"
            )
        try:
            self._restore(earlier.state)
        except Exception as error:  # torch answers damage with KeyError, ValueError, RuntimeError, TypeError and more
            raise CheckpointError(f"the run's state does not fit its recipe: it is damaged; {BEGIN_ANOTHER}") from error

    def _means(self) -> dict[str, str | int | bool]:
        """What computes the run: the bits of its weights depend on that, too."""
        return {
            "processes": self.processes.size,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "sync_bn": any(isinstance(each, nn.SyncBatchNorm) for each in self.network.modules()),
        }

    def changed_means(self, earlier: Checkpoint) -> Iterator[str]:
        """What computes the run otherwise than before: it goes on, and ends with other bits."""
        for name, value in self._means().items():
            if (before := earlier.state.get(name, value)) != value:  # runs of earlier versions do not tell all
                yield f"{name}: it was {before}, now it is {value}"

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
            self.keeps_average = all(row.get("averaged", True) for row in self.progress.history[-1:])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["generator"])

    def _differences(self, earlier: Checkpoint) -> Iterator[str]:
        """What is other than when the run was begun, in its user's words; images matter, not where they lie."""
        # Settings that are new since have their defaults.
        before = replace(Recipe.from_table(earlier.recipe), epochs=self.recipe.epochs)
        found = [*self.recipe.differences(before)]
        if earlier.seed != self.seed:
            found.append(f"seed: it was {earlier.seed}, now it is {self.seed}")
        if classes := [*differences_of_classes(earlier.labels, self.images.classes)]:
            found += classes
        elif (images := earlier.fingerprints) is not None and self.fingerprints is not None:
            found += differences(images, self.fingerprints, self.images.classes)
        spec = self.checkpoint({}).preprocessing
        if not found and earlier.preprocessing != spec:
            found.append(f"preprocessing: it was {earlier.preprocessing}, now it is {spec}")
        yield from found

    def _save(self, name: str, metrics: Metrics | None = None) -> None:
        if self.folder is not None and self.processes.leads:
            write_checkpoint(self.folder / name, self.checkpoint(metrics or {}))

    def write_metrics(self) -> None:
        """Write a line for each finished epoch."""
        if self.folder is not None and self.processes.leads:
            lines = (json.dumps(row) + "\n" for row in self.progress.history)
            write_atomically(self.folder / METRICS, "".join(lines).encode())


def _generator(*place: int) -> Generator:
    """A generator of its own for each place; SeedSequence keeps neighbouring places independent."""
    low, high = np.random.SeedSequence(place).generate_state(2).tolist()
    return Generator().manual_seed(high << 32 | low)
