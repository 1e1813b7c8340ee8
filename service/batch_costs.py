"""What an image costs in a batch of each size, and which sizes pay."""

import math
from collections.abc import Mapping

from service.policy import COST_TOLERANCE, DISPATCH_NS, EXPRESS_RATIO, QUICK_BATCH_NS, SLOW_BATCH_SAVING


def image_costs(latency_ns: Mapping[int, int]) -> dict[int, float]:
    """Nanoseconds that an image costs in a batch of each size, all that a batch costs counted in."""
    return {size: (ns + DISPATCH_NS) / size for size, ns in sorted(latency_ns.items())}


def quick_models(image_ns: Mapping[int, float]) -> frozenset[int]:
    """The models whose images are far quicker than those of another, by what an image of each costs."""
    longest_ns = max(image_ns.values(), default=0.0)
    return frozenset(model for model, ns in image_ns.items() if ns * EXPRESS_RATIO <= longest_ns)


def doubling_pays(cost: float, least: float, batch_ns: float) -> bool:
    """Whether a larger batch, which takes `batch_ns`, pays, if an image costs so much in it, and in smaller ones that.

    A quick one pays also if it makes an image no cheaper here: under load it does. Images that run one by one find the
    weights driven out of the caches by the decoding of others. A slow one makes others wait, and leaves workers without
    work at its end, while they wait for images.
    """
    return cost < least * (1 + COST_TOLERANCE if batch_ns <= QUICK_BATCH_NS else 1 - SLOW_BATCH_SAVING)


def best_batch_size(latency_ns: Mapping[int, int]) -> int:
    """The largest size up to which each doubling paid."""
    best, least = 0, math.inf
    for size, cost in image_costs(latency_ns).items():
        if not doubling_pays(cost, least, latency_ns[size]):
            break
        best, least = size, min(least, cost)
    return best
