"""Other people's weights become a released model, with proof of the graph and, where it can be had, of the origin."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from models.artifact.metadata import Metadata
from models.engines.loader import load_engine
from models.networks import registry
from models.networks.pixel_net import PixelNet
from training.errors import UsageError, WeightsError
from training.options import ImportOptions
from training.release.onnx_export import to_onnx
from training.release.parity import PARITY_BOUND, check_parity
from training.release.release import assemble, describe, release
from training.stages import Stages
from training.weights import origin, torchvision_weights, variants
from training.weights.conversion import Adopted, adopt
from training.weights.model_config import ModelConfig, read_model_config
from training.weights.model_spec import ModelSpec, parse_labels, spec_of_options
from training.weights.weights_file import WeightsFile, read_weights

_PICTURES = 8
"""Pictures of noise on which the graph is compared with PyTorch."""


@dataclass(frozen=True, slots=True)
class ImportedWeights:
    """What was written, what is to be said of it, and what proves it.

    `difference` is the largest of a logit between the graph and PyTorch; `proof` says what is known of the origin.
    """

    directory: Path
    metadata: Metadata
    notes: tuple[str, ...]
    difference: float
    proof: str

    def report(self) -> str:
        """Lines for people."""
        spec, labels, recipe = self.metadata.preprocessing, self.metadata.labels, self.metadata.recipe
        arguments = "".join(f" {key} {value}" for key, value in self.metadata.arguments.items())
        lines = (
            f"{self.metadata.architecture}{arguments} with {recipe['weights'] or recipe['imported_from']}",
            *self.notes,
            f"{len(labels)} classes, {labels[0]} to {labels[-1]}",
            f"resize {spec.resize} {spec.interpolation}, crop {spec.height}, mean {spec.mean}, std {spec.std}",
            self._compared(),
            f"the origin: {self.proof}",
        )
        return "\n  ".join((str(self.directory), *lines))

    def _compared(self) -> str:
        return (
            f"the graph, compared with this project's {self.metadata.architecture} in PyTorch on {_PICTURES} pictures "
            f"of noise: logits differ by {self.difference:.1e}, allowed is {PARITY_BOUND:g} of the largest"
        )


def import_weights(options: ImportOptions, stages: Stages) -> ImportedWeights:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError.

    The graph is compared with PyTorch on noise, since weights come without pictures.
    """
    reference = origin.Reference.read(options.reference) if options.reference else None
    stages.begin("reading the weights")
    file = read_weights(torchvision_weights.find(options.source) or Path(options.source))
    config = read_model_config(file.path)
    adopted = _adopt(options, file, config)
    if not reference:
        _check_names(file, adopted)
    spec = _spec(options, file, config)
    metadata = _metadata(options, spec, file, adopted)
    network = PixelNet(adopted.network, metadata.preprocessing).eval()
    shape = metadata.preprocessing.shape
    stages.begin("exporting the graph")
    draft = assemble(options.name, options.version, to_onnx(network, shape), metadata)
    stages.begin(f"comparing it with PyTorch on {_PICTURES} pictures")
    engine = load_engine(draft, threads=torch.get_num_threads())
    difference = check_parity(network, engine, _noise(shape))
    proofs = [
        reference.compare(adopted.network, engine, shape, adopted.has_one_output) if reference else None,
        origin.check_expected(options.expect, metadata.labels, metadata.preprocessing, engine),
        f"{metadata.recipe['weights']}, by its SHA-256" if metadata.recipe["weights"] else None,
    ]
    proof = "; ".join(filter(None, proofs)) or origin.NOT_SEEN
    directory = release(draft, options.repository, safetensors.torch.save(adopted.network.state_dict()))
    notes = (*adopted.notes, *_notes(file, config, spec, metadata))
    return ImportedWeights(directory, metadata, notes, difference, proof)


def _adopt(options: ImportOptions, file: WeightsFile, config: ModelConfig | None) -> Adopted:
    """The network, by the name that the command line or the config gives, else by its weights."""
    named = config.architecture if config else None
    if config and (other := config.other_function):
        raise WeightsError(f"{config.files[0]} beside the weights says that they are of another network: {other}")
    if named and options.arch and named != options.arch:
        raise WeightsError(f"config.json beside the weights says that they are of {named}, --arch says {options.arch}")
    try:
        adopted = adopt(
            file.content,
            options.arch or named,
            options.zero_channels,
            prefix=options.prefix,
            fresh_classes=len(parse_labels(options.labels)) if options.labels else None,
        )
    except registry.ArchitectureError as error:
        raise UsageError(str(error)) from error
    if adopted.has_fresh_head and (options.reference or options.expect):
        raise UsageError("the last layer is fresh, and answers nothing yet: leave out --reference and --expect")
    return adopted


def _check_names(file: WeightsFile, adopted: Adopted) -> None:
    """Networks with weights of the same names and another function are told by how they are called, if at all."""
    names = (*adopted.networks, file.path.stem)
    claims = [f"{name} {what}" for name in names if (what := variants.difference(name))]
    if classes := variants.difference_of_classes(file.stand_ins):
        claims.append(f"it {classes}")
    if claims:
        raise WeightsError(
            f"{file.path.name} says that its network is another than {adopted.architecture}: {claims[0]}; if that "
            "is not so, prove it with --reference FILE: inputs, and the origin's logits"
        )


def _spec(options: ImportOptions, file: WeightsFile, config: ModelConfig | None) -> ModelSpec:
    """What the user says of the network, then what the files beside it do, then its publisher."""
    publication = torchvision_weights.by_sha256(file.sha256)
    like = torchvision_weights.by_name(options.like) if options.like else publication
    spec = spec_of_options(options).over(config.spec if config else ModelSpec())
    return spec.over(torchvision_weights.model_spec(like)) if like else spec


def _metadata(options: ImportOptions, spec: ModelSpec, file: WeightsFile, adopted: Adopted) -> Metadata:
    publication = torchvision_weights.by_sha256(file.sha256)
    channels, side, _ = registry.describe(adopted.architecture).shape_with(adopted.arguments)
    if adopted.has_one_output and spec.labels and len(spec.labels) != adopted.classes:
        raise WeightsError(
            f"the network has one output, which tells two classes apart, and there are {len(spec.labels)} labels: give "
            "two, that of an output below 0 first, such as --labels no,yes"
        )
    labels, preprocessing = spec.settle(adopted.classes, side, channels)
    return describe(
        architecture=adopted.architecture,
        arguments=adopted.arguments,
        labels=labels,
        preprocessing=preprocessing,
        metrics=torchvision_weights.metrics(publication) if publication else {},
        recipe={
            "imported_from": file.path.name,
            "sha256": file.sha256,
            "weights": str(publication) if publication else None,
            "zero_channels": options.zero_channels,
        },
    )


def _notes(file: WeightsFile, config: ModelConfig | None, spec: ModelSpec, metadata: Metadata) -> list[str]:
    """What else the user should know."""
    notes = []
    if file.stand_ins:
        notes.append(f"inert, nothing of them was loaded or run: {', '.join(file.stand_ins)}")
    if config:
        notes.append(f"{' and '.join(config.files)} beside the weights tell what no flag does")
    if renamed := [label for label in metadata.labels if label not in (spec.labels or ())]:
        notes.append(f"labels that repeat have their index behind them: {', '.join(renamed)}")
    return notes


def _noise(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (_PICTURES, *shape), np.uint8)
