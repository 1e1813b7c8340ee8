"""A training run and its folder."""

import dataclasses
import json
import time
from pathlib import Path

import torch

from training.data.dataset import ImageSet, preprocessing
from training.errors import CheckpointError
from training.loop.checkpoint import Checkpoint, write_atomically, write_checkpoint
from training.loop.interrupt import Interrupt
from training.loop.progress_bar import ProgressBar
from training.loop.recipe import Recipe
from training.loop.scoring import Score, evaluate
from training.loop.trainer import Trainer
from training.plots import draw_confusion, draw_curves

LAST = "last.pt"
BEST = "best.pt"
METRICS = "metrics.jsonl"
CURVES = "curves.png"
CONFUSION = "confusion.png"

Metrics = dict[str, str | int | float]


class Run:
    """Trains and keeps the folder up to date: checkpoints, figures, pictures, each file written whole or not at all."""

    def __init__(self, folder: Path, data_name: str, trainer: Trainer, held_back: ImageSet) -> None:
        self.folder, self.trainer, self.held_back = folder, trainer, held_back
        self.checkpoint = Checkpoint(
            architecture=trainer.recipe.architecture,
            arguments=trainer.recipe.arguments,
            labels=trainer.images.classes,
            preprocessing=preprocessing(trainer.images, trainer.normalization, trainer.recipe.crop),
            recipe=trainer.recipe.to_table(),
            data=data_name,
            seed=trainer.seed,
            metrics={},
            weights={},
            state={},
        )

    def resume(self, earlier: Checkpoint) -> None:
        """Go on from a checkpoint; CheckpointError if anything that shapes the run is not as it was."""
        settings = ("data", "seed", "labels", "preprocessing")
        differing = [name for name in settings if getattr(earlier, name) != getattr(self.checkpoint, name)]
        if Recipe.from_table(earlier.recipe) != self.trainer.recipe:  # settings that are new since have their defaults
            differing.insert(0, "recipe")
        if differing:
            raise CheckpointError(
                f"{self.folder / LAST} was begun with another {', '.join(differing)}: give what it was begun with"
            )
        self.trainer.load(earlier.state)

    def train(self, bar: ProgressBar, interrupt: Interrupt, save_seconds: float) -> None:
        """Train to the recipe's end or a signal; Diverged leaves the last good checkpoint as it was.

        Within an epoch a checkpoint is written every `save_seconds`.
        """
        trainer, saved = self.trainer, time.monotonic()
        while trainer.progress.epoch < trainer.recipe.epochs:
            for progress in trainer.steps():
                bar.update(progress)
                interrupt.signal = trainer.ranks.agree(interrupt.signal)
                if interrupt.signal is not None:
                    self._save()
                    return
                if time.monotonic() - saved >= save_seconds:
                    self._save()
                    saved = time.monotonic()
            bar.finish_epoch(self._close_epoch())
            saved = time.monotonic()

    def conclude(self) -> None:
        """Write the figures once more, in case the run was killed before it could, and draw the pictures."""
        history = self.trainer.progress.history
        title = f"{self.checkpoint.architecture} on {Path(self.checkpoint.data).name}"
        score = self._score()  # which takes all processes
        if not self.trainer.ranks.leads:
            return
        self._write_metrics()
        write_atomically(self.folder / CURVES, draw_curves(history, title))
        if score is not None:
            title += f", {len(self.held_back):,} images held back: {score.accuracy:.2%}"
            picture = draw_confusion(score.confusion, self.held_back.classes, title)
            write_atomically(self.folder / CONFUSION, picture)

    def _close_epoch(self) -> dict[str, int | float]:
        trainer, metrics, score = self.trainer, Metrics(), self._score()
        before = [row["validation_accuracy"] for row in trainer.progress.history if "validation_accuracy" in row]
        if score is not None:
            metrics = {"data": self.checkpoint.data, "split": "validation", "images": len(self.held_back)}
            metrics |= {"accuracy": score.accuracy, "loss": score.loss, "epoch": trainer.progress.epoch + 1}
        figures = trainer.finish_epoch(score)
        if score is not None and score.accuracy > max(before, default=-1.0):
            self._save(metrics, BEST)
        self._save(metrics)
        self._write_metrics()
        return figures

    def _score(self) -> Score | None:
        """How well it does on the images held back, if any; each process looks at its part of them."""
        trainer, ranks = self.trainer, self.trainer.ranks
        if not len(self.held_back):
            return None
        ranks.take_over(trainer.judged.buffers())
        images, labels = ranks.part(self.held_back.images), ranks.part(self.held_back.labels)
        part = ImageSet(images, labels, self.held_back.classes)
        return ranks.merge(evaluate(trainer.judged, part, trainer.normalization))

    def _save(self, metrics: Metrics | None = None, name: str = LAST) -> None:
        if not self.trainer.ranks.leads:
            return
        checkpoint = dataclasses.replace(
            self.checkpoint,
            metrics=metrics or {},
            weights={key: value.contiguous() for key, value in self.trainer.judged.state_dict().items()},
            state=self.trainer.state() | {"threads": torch.get_num_threads()},
        )
        write_checkpoint(self.folder / name, checkpoint)

    def _write_metrics(self) -> None:
        if not self.trainer.ranks.leads:
            return
        lines = (json.dumps(row) + "\n" for row in self.trainer.progress.history)
        write_atomically(self.folder / METRICS, "".join(lines).encode())
