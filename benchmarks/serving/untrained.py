"""A released model with random weights: as fast as a trained one, and made in seconds."""

import warnings
from pathlib import Path

from models.images.preprocessing import Preprocessing

PHOTOGRAPHS = Preprocessing.usual((224, 224, 3), 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def release_untrained(architecture: str, repository: Path) -> None:
    """Write version 1 of a network for photographs, exported as trained ones are."""
    import torch  # only here: the benchmarks' other parts do without

    from models.networks import registry
    from models.networks.pixel_net import PixelNet
    from training.release.onnx_export import to_onnx
    from training.release.release import assemble, describe, release

    torch.manual_seed(0)  # the same network in every run
    network = PixelNet(registry.build(architecture), PHOTOGRAPHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own libraries
        graph = to_onnx(network, PHOTOGRAPHS.shape)
    metadata = describe(
        architecture=architecture,
        arguments={},
        labels=tuple(f"class {i}" for i in range(registry.describe(architecture).classes)),
        preprocessing=PHOTOGRAPHS,
        metrics={},
        recipe={},
    )
    release(assemble(architecture, 1, graph, metadata), repository, weights=None)
