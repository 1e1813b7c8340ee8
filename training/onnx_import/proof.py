"""Proof that a released model answers as the ONNX file that it came from: each stage alone, then all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact
from models.engines.engine import Engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.preprocessing import Preprocessing
from models.postprocess import softmax
from training.errors import OnnxImportError
from training.onnx_import.answers import Agreement, Scores, as_origin, compare, of_two
from training.onnx_import.classifier_graph import Ending, front
from training.onnx_import.diagnosis import (
    EQUAL,
    TRIED,
    distance,
    explain,
    fitted_normalisation,
    input_changes,
    pixel_changes,
)
from training.onnx_import.interface import Interface, as_rows, sum_to_one
from training.onnx_import.origin import Origin, Stage
from training.onnx_import.pictures import SamplePicture
from training.onnx_import.session import make_session
from training.onnx_import.source import OnnxSource
from training.release.parity import PARITY_BATCHES

_LEVELS = 3
"""Largest difference of a pixel that is decoded and not resized."""

_INPUT_ERROR = {np.dtype(np.float16): 2e-3}
"""Largest difference of a normalised number in less than fp32, as a fraction of the largest."""

_FLOAT_ERROR = 1e-5
"""The same in fp32."""

_FEW = 11
"""Pictures on which the smaller batches are tried: they fill none of them to the end."""


@dataclass(frozen=True, slots=True)
class OnnxProof:
    """`graph` compares the graphs on the same pixels, in batches of every size; `whole` all stages from the file on."""

    graph: Agreement
    whole: Agreement


class OnnxProver:
    """An ONNX file and its way with pictures, whose answers a released model is compared with."""

    def __init__(
        self,
        source: OnnxSource,
        interface: Interface,
        ending: Ending,
        origin: Origin,
        pictures: Sequence[SamplePicture],
    ) -> None:
        self._source, self._interface, self._ending = source, interface, ending
        self.origin, self._pictures = origin, [picture.data for picture in pictures]
        self._pixels = np.stack([origin.pixels(picture) for picture in self._pictures])
        self._expected = self.scores(origin.inputs(self._pixels))
        broken = int((np.isnan(self._expected) | np.isposinf(self._expected)).any(axis=1).sum())
        if broken:
            raise OnnxImportError(
                f"for {broken} of {len(pictures)} pictures the file itself answers with what is no number (NaN or "
                "infinity): give the one from before the training diverged, or export it in fp32 if this is fp16"
            )

        if ending == "logits" and interface.classes == 1 and ((self._expected >= 0) & (self._expected <= 1)).all():
            raise OnnxImportError(
                f"the file's only number lies within 0 and 1 for all of {len(pictures)} pictures: it seems to be a "
                "probability already, made by more than a last Sigmoid; export the file without its last activation"
            )

    def scores(self, inputs: NDArray[np.float32]) -> Scores:
        """The origin's own answers [n, classes] to inputs as its graph wants them."""
        (values,) = self._source.run(inputs, [self._interface.output])
        rows = as_rows(values)
        assert rows is not None
        return of_two(rows)

    def prove_graph(self, engine: Engine, tolerance: float) -> Agreement:
        """Compare the graphs on the same pixels, in batches of several sizes; OnnxImportError if they differ."""
        for size in PARITY_BATCHES:
            count = len(self._pixels) if size == max(PARITY_BATCHES) else _FEW
            batches = [self._pixels[first : first + size] for first in range(0, count, size)]
            logits = np.concatenate([engine.run(batch) for batch in batches])
            agreement = compare(self._in_its_form(logits), self._expected[: len(logits)], tolerance)
            if not agreement.holds:
                twice = compare(logits, self._expected[: len(logits)], tolerance).holds
                cause = ", as if softmax were applied twice" if twice else ""
                raise _differs("graph", f"in batches of {size} {agreement}, and {agreement.allowed:.2g} may be{cause}")
        return agreement

    def prove(self, artifact: Artifact, engine: Engine) -> OnnxProof:
        """Compare stage by stage, then the whole; OnnxImportError names the first stage that differs."""
        spec = artifact.metadata.preprocessing
        served = served_pixels(spec, self._pictures)
        self._prove_pixels(spec, served)
        self._prove_inputs(front(artifact.model))
        tolerance = artifact.metadata.tolerance[artifact.metadata.precision]
        graph = self.prove_graph(engine, tolerance)
        return OnnxProof(graph, compare(self._in_its_form(engine.run(served)), self._expected, tolerance))

    def _in_its_form(self, logits: Scores) -> Scores:
        """What the origin would have given for a released model's logits."""
        return softmax(logits) if sum_to_one(self._expected) else as_origin(logits, self._ending)

    def _prove_pixels(self, spec: Preprocessing, served: NDArray[np.uint8]) -> None:
        """Decoding, and resize with crop."""
        found, expected = served.astype(np.float32), self._pixels.astype(np.float32)
        # The server resizes and crops in one step, torchvision in two, each of which rounds.
        if distance(found, expected) <= EQUAL:
            return

        def pixels(other: Origin) -> NDArray[np.float32]:
            return np.stack([other.pixels(picture) for picture in self._pictures[:TRIED]]).astype(np.float32)

        change = explain(self.origin, found[:TRIED], pixels, pixel_changes(self.origin))
        words = f"pixels differ by up to {np.abs(found - expected).max():.0f} of 255 levels"
        if change:
            raise _differs(change.stage, f"{words}, as if it {change.words}")
        raise _differs(self._first_of_pixels(spec), words)

    def _first_of_pixels(self, spec: Preprocessing) -> Stage:
        """Which of the two it is: pictures are decoded alone, at the size that they have."""
        for picture in self._pictures:
            expected = np.asarray(self.origin.decode(picture))
            height, width = expected.shape[:2]
            whole = replace(spec, crop="squash", height=height, width=width, resize=max(height, width))
            (found,) = served_pixels(whole, [picture])
            if np.abs(found.reshape(expected.shape).astype(int) - expected).max() > _LEVELS:
                return "decode"
        return "resize"

    def _prove_inputs(self, graph: bytes) -> None:
        """Normalisation and layout: what the origin's graph gets inside the released model, from the same pixels."""
        expected = self.origin.inputs(self._pixels).astype(self._source.dtype).astype(np.float32)
        (found,) = make_session(graph).run(None, {"image": self._pixels})
        bound = _INPUT_ERROR.get(self._source.dtype, _FLOAT_ERROR) * float(np.abs(expected).max())
        if found.shape == expected.shape and np.abs(found - expected).max() <= bound:
            return
        found = found.astype(np.float32)
        changes = (*input_changes(self.origin), *fitted_normalisation(self.origin, self._pixels, found))
        if change := explain(self.origin, found, lambda other: other.inputs(self._pixels), changes):
            raise _differs(change.stage, f"its graph gets what an origin would that {change.words}")
        stage: Stage = "layout" if found.shape != expected.shape else "normalise"
        raise _differs(stage, "its graph gets other numbers")


def served_pixels(spec: Preprocessing, pictures: Sequence[bytes]) -> NDArray[np.uint8]:
    """Pixels [n, h, w, c] of pictures as a server decodes them; ImageError for anything that is no image."""
    preprocessor = Preprocessor(spec, MAX_PIXELS)
    return np.stack([preprocessor(picture) for picture in pictures])


def _differs(stage: Stage, words: str) -> OnnxImportError:
    return OnnxImportError(f"stage {stage}: {words}")
