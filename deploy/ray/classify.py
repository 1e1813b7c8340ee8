"""Classify folders or object stores of pictures on a Ray cluster, with a released model.

    python deploy/ray/classify.py s3://photos/2026 --model-repository s3://models/released --output s3://answers/2026

reads the model where it starts, proves it in every actor by its golden examples, and writes Parquet: `path`, `label`,
`probability`, and `problem` where a file is no picture. It runs on the cluster that RAY_ADDRESS names, which `ray job
submit` sets, else on this machine's cores. Every node needs `pip install 'resnet-serve[cpu,ray]'`.
"""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from models.command_line import command_line, read_options
from models.engines.engine import EngineError
from models.engines.golden import verify
from models.engines.loader import load_engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError
from models.images.image_type import USUAL_TYPES
from models.postprocess import softmax
from service.catalog.repository import ZOO, Repository, RepositoryError, signed_by
from service.catalog.repository_place import RepositoryPlace
from service.config.setting_types import CacheDir, FetchTimeout, ImageTypes, Positive, SigningKey
from service.remote.fetch import fetch

COLUMNS = pa.schema(
    [("path", pa.string()), ("label", pa.string()), ("probability", pa.float32()), ("problem", pa.string())]
)


class Classify(BaseSettings):
    """Classify pictures with a released model, on all nodes of a Ray cluster."""

    model_config = command_line("classify.py")

    pictures: CliPositionalArg[list[str]] = Field(description="folders, files or their s3:// or gs:// addresses")
    output: str = Field(description="folder, or its address, for the answers as Parquet; every node must reach it")
    model_repository: RepositoryPlace = Field(ZOO, description="folder or address of models; default: those that ship")
    model: str | None = Field(None, description="which model; default: the default model")
    cache_dir: CacheDir = None
    fetch_timeout: FetchTimeout = 600.0
    require_signature: SigningKey = None
    image_types: ImageTypes = Field(USUAL_TYPES, description="which types of image are taken")
    batch_size: Positive = Field(32, description="images in a batch")
    actors: int = Field(0, ge=0, description="processes that classify; 0: as many as pay, up to all cores")
    threads: Positive = Field(1, description="cores of each of them")


class Classifier:
    """One actor: preprocessing and engine of a released model, proven by its golden examples; ArtifactError."""

    def __init__(self, stored: "ray.ObjectRef[Artifact]", image_types: ImageTypes, threads: int) -> None:
        artifact = ray.get(stored)
        self._labels = artifact.labels
        self._preprocessor = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS, image_types)
        self._engine = load_engine(artifact, threads=threads)
        verify(artifact, self._engine)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        """A row for each file, from the columns `path` and `bytes`; one that is no picture fails alone."""
        rows, images = [], []
        for path, data in zip(batch["path"], batch["bytes"], strict=True):
            rows.append({"path": str(path), "label": None, "probability": None, "problem": None})
            try:
                images.append((rows[-1], self._preprocessor(data)))
            except ImageError as error:
                rows[-1]["problem"] = str(error)
        if images:
            probabilities = softmax(self._engine.run(np.stack([pixels for _, pixels in images])))
            for (row, _), each in zip(images, probabilities, strict=True):
                row["label"], row["probability"] = self._labels[int(each.argmax())], float(each.max())
        return pa.Table.from_pylist(rows, COLUMNS)


def classify(options: Classify) -> None:
    """Write a row for each file; RepositoryError or ArtifactError if there is no such model."""
    check_origin = signed_by(options.require_signature)
    repository = fetch(options.model_repository, options.cache_dir, options.fetch_timeout)
    for problem in repository.problems:
        print(problem, file=sys.stderr)  # noqa: T201
    catalog = Repository(repository.folder, check_origin=check_origin).read(options.model)
    artifact = replace(catalog.artifacts[catalog.default], weights=None, int8=None)  # what no actor needs
    ray.init()
    most = max(1, int(ray.cluster_resources()["CPU"]) // options.threads)
    strategy = ray.data.ActorPoolStrategy
    ray.data.read_binary_files(options.pictures, include_paths=True).map_batches(
        Classifier,
        fn_constructor_args=(ray.put(artifact), options.image_types, options.threads),
        batch_size=options.batch_size,
        num_cpus=options.threads,
        compute=strategy(size=options.actors) if options.actors else strategy(min_size=1, max_size=most),
    ).write_parquet(options.output)


def main() -> int:
    """Run the command; its exit code."""
    try:
        classify(read_options(Classify, sys.argv[1:]))
    except (RepositoryError, ArtifactError, EngineError, ray.exceptions.RayError) as error:
        print(f"classify.py: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
