"""A released model with random weights: as fast as a trained one, and made in seconds."""

import dataclasses
import warnings
from datetime import UTC, datetime
from pathlib import Path

from models import golden
from models.artifact import FORMAT_VERSION, Artifact, Metadata, Preprocessing, write_artifact
from models.engines import load_engine

PHOTOGRAPHS = Preprocessing(
    mode="RGB",
    height=224,
    width=224,
    resize=256,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    crop="center",
    interpolation="bilinear",
    antialias=True,
    exif_transpose=True,
    background=(255, 255, 255),
    sixteen_bit="high_byte",
    polarity="as_is",
    draft=True,
)


def release_untrained(architecture: str, repository: Path, seed: int = 0) -> None:
    """Write version 1 of a network for photographs, exported as trained ones are."""
    import torch  # only here: the benchmarks' other parts do without

    from models.registry import build, describe
    from training.graph import PixelNet, to_onnx, with_metadata

    torch.manual_seed(seed)
    network = PixelNet(build(architecture), PHOTOGRAPHS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about its own libraries
        graph = to_onnx(network, PHOTOGRAPHS.shape)
    metadata = Metadata(
        format_version=FORMAT_VERSION,
        architecture=architecture,
        arguments={},
        labels=tuple(f"class {i}" for i in range(describe(architecture).classes)),
        preprocessing=PHOTOGRAPHS,
        precision="fp32",
        tolerance=golden.TOLERANCE,
        metrics={},
        recipe={},
        tools={"torch": torch.__version__},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        golden=(),
    )
    draft = Artifact(architecture, 1, metadata, with_metadata(graph, metadata), "", None)
    metadata = dataclasses.replace(metadata, golden=golden.make(draft, load_engine(draft)))
    write_artifact(repository, architecture, 1, with_metadata(graph, metadata), None)
