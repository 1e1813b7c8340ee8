"""`resnet-train import model.onnx`: anybody's ONNX classifier becomes a released model that answers as it does."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from models.artifact.artifact import Artifact
from models.artifact.metadata import Metadata, Precision
from models.engines import golden
from models.engines.engine import Engine, EngineError
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from training.errors import OnnxImportError
from training.onnx_import.classifier_graph import ClassifierGraph, classifier_graph
from training.onnx_import.interface import Interface, find_interface
from training.onnx_import.origin import Origin
from training.onnx_import.pictures import SamplePicture, make_pictures, read_pictures
from training.onnx_import.proof import OnnxProof, OnnxProver, served_pixels
from training.onnx_import.reference import MakersAnswers, makers_answers, prove_by_reference
from training.onnx_import.source import OnnxSource, read_source
from training.options import ImportOptions
from training.release.parity import PARITY_BATCHES
from training.release.release import assemble, describe, release
from training.stages import Stages
from training.weights import torchvision_weights
from training.weights.model_config import read_model_config
from training.weights.model_spec import ModelSpec, spec_of_options
from training.weights.origin import Reference, check_expected
from training.weights.reference_file import read_arrays

SUFFIXES = (".onnx", ".ort")
"""Ends of the names of files that are imported so."""

NOT_SEEN = (
    "how its maker prepares pictures was told, and not seen: --expect PICTURE=LABEL, or --pictures FOLDER with "
    "--reference FILE, would prove it"
)


@dataclass(frozen=True, slots=True)
class OnnxImport:
    """What was written, what the file was, and the proofs."""

    directory: Path
    metadata: Metadata
    said: str
    batching: str
    proof: OnnxProof
    shown: str
    told: str

    def report(self) -> str:
        """A few lines for people."""
        spec, labels = self.metadata.preprocessing, self.metadata.labels
        return (
            f"{self.directory}\n"
            f"  {self.said}; it {self.batching}\n"
            f"  {len(labels)} classes, {labels[0]} to {labels[-1]}\n"
            f"  resize {spec.resize}, crop {spec.height} x {spec.width} ({spec.crop}), {spec.interpolation}, mean "
            f"{spec.mean}, std {spec.std}\n"
            f"  compared with the file itself, behind Pillow, torchvision's resize and NumPy, on {self.shown}:\n"
            f"    the graphs, in batches of {', '.join(map(str, PARITY_BATCHES))}: {self.proof.graph}\n"
            f"    all stages: {self.proof.whole}; classes among the answers: {self.proof.whole.distinct}\n"
            f"  the origin: {self.told}"
        )


def import_onnx(options: ImportOptions, stages: Stages) -> OnnxImport:
    """Write the artifact whole or not at all; raises TrainingError or ArtifactError.

    The released model is compared with the file, stage by stage, on pictures that are given or made.
    """
    reference = _read_reference(options)
    stages.begin("reading the file")
    source, bgr = read_source(Path(options.source)), options.channel_order == "bgr"
    spec = _spec(options, source)
    labels_told = len(spec.labels) if spec.labels else None
    interface = find_interface(source, layout=options.layout, side=spec.size, output=options.output, labels=labels_told)
    labels, preprocessing = _settle(spec, source, interface, bgr=bgr)
    graph = classifier_graph(source, interface, preprocessing, bgr=bgr)
    name = options.arch or source.path.stem
    metadata = _metadata(options, name, labels, preprocessing, source, interface, graph)
    stages.begin("comparing what is made of it with the file")
    pictures, shown = _pictures(options, preprocessing)
    origin = Origin.of(preprocessing, interface, bgr=bgr)
    prover = OnnxProver(source, interface, graph.ending, origin, pictures)
    draft, proof, batching = _first_that_holds(options, graph, metadata, prover)
    engine = load_engine(draft)
    proofs = [
        None if reference is None else _by_reference(reference, preprocessing, engine, prover, pictures),
        check_expected(options.expect, labels, preprocessing, engine),
    ]
    said = (
        f"{source.path.name}: {source.input.name} {source.input.type} {source.input.shape} as {interface.layout}, "
        f"{interface.output} ({graph.ending})"
    )
    told = "; ".join(filter(None, proofs)) or NOT_SEEN
    return OnnxImport(release(draft, options.repository, None), metadata, said, batching, proof, shown, told)


class _OriginNetwork(nn.Module):
    """The file as a network of PyTorch's."""

    def __init__(self, prover: OnnxProver) -> None:
        super().__init__()
        self._prover = prover

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.from_numpy(self._prover.scores(inputs.numpy()))


def _read_reference(options: ImportOptions) -> Reference | MakersAnswers | None:
    """What its maker got from the file: for the pictures that are given, without these for inputs beside it."""
    if options.reference is None:
        return None
    if options.pictures is None:
        return Reference.read(options.reference)
    return makers_answers(read_arrays(options.reference))


def _by_reference(
    reference: Reference | MakersAnswers,
    preprocessing: Preprocessing,
    engine: Engine,
    prover: OnnxProver,
    pictures: Sequence[SamplePicture],
) -> str:
    """What its maker's answers prove: of the pictures, from their files on; without these of the inputs beside them."""
    if isinstance(reference, Reference):
        return reference.compare(_OriginNetwork(prover), engine, preprocessing.shape, one_output=False)
    served = engine.run(served_pixels(preprocessing, [picture.data for picture in pictures]))
    agreement = prove_by_reference(reference, served, prover.origin, pictures, prover.scores)
    return f"its maker's own answers: {agreement}"


def _spec(options: ImportOptions, source: OnnxSource) -> ModelSpec:
    """What the user says of the network, then what the files beside it do, then a release that is like it."""
    config = read_model_config(source.path)
    spec = spec_of_options(options).over(config.spec if config else ModelSpec())
    if options.like:
        return spec.over(torchvision_weights.model_spec(torchvision_weights.by_name(options.like)))
    return spec


def _first_that_holds(
    options: ImportOptions, graph: ClassifierGraph, metadata: Metadata, prover: OnnxProver
) -> tuple[Artifact, OnnxProof, str]:
    """The first model that answers as the origin, its proof, and how it takes batches; else OnnxImportError."""
    failures = []
    for candidate in graph.candidates:
        try:
            draft = assemble(options.name, options.version, candidate.build(), metadata)
            engine = load_engine(draft, threads=torch.get_num_threads())
            return draft, prover.prove(draft, engine), candidate.batching
        except (OnnxImportError, EngineError) as error:
            failures.append(str(error))
    raise OnnxImportError(f"what was made of {options.source} does not answer as it does: {failures[-1]}")


def _pictures(options: ImportOptions, preprocessing: Preprocessing) -> tuple[list[SamplePicture], str]:
    """What models are compared on, and its name."""
    if options.pictures:
        pictures = read_pictures(options.pictures, preprocessing)
        return pictures, f"{len(pictures)} pictures of {options.pictures}"
    pictures = make_pictures(preprocessing.height, preprocessing.width)
    return pictures, f"{len(pictures)} generated pictures"


def _metadata(
    options: ImportOptions,
    name: str,
    labels: tuple[str, ...],
    preprocessing: Preprocessing,
    source: OnnxSource,
    interface: Interface,
    graph: ClassifierGraph,
) -> Metadata:
    recipe: dict[str, JsonValue] = {
        "imported_from": source.path.name,
        "sha256": dict(source.digests),
        "output": interface.output,
        "ending": graph.ending,
        "layout": interface.layout,
        "channel_order": options.channel_order,
    }
    metadata = describe(
        architecture=name, arguments={}, labels=labels, preprocessing=preprocessing, metrics={}, recipe=recipe
    )
    if graph.precision == "fp32":
        return metadata
    tolerance: dict[Precision, float] = {graph.precision: golden.TOLERANCE[graph.precision]}
    return dataclasses.replace(metadata, precision=graph.precision, tolerance=tolerance)


def _settle(
    spec: ModelSpec, source: OnnxSource, interface: Interface, *, bgr: bool
) -> tuple[tuple[str, ...], Preprocessing]:
    """Labels and preprocessing; mean and deviation, which are told in the order of the network's channels, in RGB."""
    height, width, channels = interface.shape
    if bgr and channels == 1:
        raise OnnxImportError("--channel-order bgr is for pictures in colour, and the graph takes grey ones")
    if source.dtype == "uint8":
        if spec.mean or spec.std:
            raise OnnxImportError("the graph takes bytes, and normalises them itself: leave out --mean and --std")
        spec = dataclasses.replace(spec, mean=(0.0,) * channels, std=(1 / 255,) * channels)
    labels, preprocessing = spec.settle(max(interface.classes, 2), max(height, width), channels)
    order = slice(None, None, -1 if bgr else 1)
    return labels, dataclasses.replace(
        preprocessing, height=height, width=width, mean=preprocessing.mean[order], std=preprocessing.std[order]
    )
