"""What moves the weights: stochastic gradient descent, and the moving average of what it reaches."""

from typing import Any

from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from training.loop.recipe import Recipe
from training.loop.trained_network import in_head


def make_optimizer(network: nn.Module, recipe: Recipe) -> SGD:
    """Return the recipe's optimiser, each group of parameters at its peak rate; frozen parameters are in none."""
    settings = recipe.optimizer
    return SGD(
        _groups(network, recipe),
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        fused=True,
    )


def freeze_body(network: nn.Module) -> None:
    """Keep every weight but those of the last layer as it is."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(in_head(name))


def moving_average(network: nn.Module, decay: float | None) -> AveragedModel | None:
    """Return the exponential moving average of weights and batch statistics; None if there is none.

    Its decay after step t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage: with that of
    a long run from the start, a short one would end with hardly more than its initial weights.
    """
    if decay is None:
        return None

    def update(averages: PARAM_LIST, values: PARAM_LIST, steps: Tensor | int) -> None:
        average = get_ema_multi_avg_fn(min(decay, (1 + int(steps)) / (10 + int(steps))))  # type: ignore[no-untyped-call]
        average(averages, values, steps)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters that decay and those that do not; in fine-tuning those of the head first, then the body's."""
    settings = recipe.optimizer
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {
        (rate, decays): [] for rate in dict.fromkeys((1.0, recipe.body_rate)) for decays in (True, False)
    }
    for name, parameter in network.named_parameters():
        decays = settings.decay == "all" or parameter.ndim > 1  # biases and normalisation have one dimension
        if parameter.requires_grad:
            groups[1.0 if in_head(name) else recipe.body_rate, decays].append(parameter)
    return [
        {
            "params": parameters,
            "lr": rate * settings.learning_rate,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (rate, decays), parameters in groups.items()
    ]
