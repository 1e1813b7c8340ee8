"""Answers that the maker of an ONNX file got from it: the proof that pictures are prepared as its maker does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.postprocess import softmax
from training.errors import OnnxImportError
from training.onnx_import.answers import Agreement, Scores, compare
from training.onnx_import.diagnosis import (
    EQUAL,
    TRIED,
    distance,
    explain,
    fitted_normalisation,
    input_changes,
    pixel_changes,
)
from training.onnx_import.interface import sum_to_one
from training.onnx_import.origin import Origin
from training.onnx_import.pictures import SamplePicture

_CLOSE = 0.05
"""Distance of answers whose pictures went through decoders and filters that round otherwise."""

_TWISTS: dict[str, Callable[[Scores], Scores]] = {
    "applies softmax twice": lambda logits: softmax(softmax(logits)),
    "applies sigmoid to the logits": lambda logits: np.asarray(1 / (1 + np.exp(-logits)), np.float32),
}
"""What scripts make of logits by mistake."""


@dataclass(frozen=True, slots=True)
class MakersAnswers:
    """Logits or probabilities [n, classes] of pictures in the order of their paths, and perhaps inputs [n, ...]."""

    logits: Scores
    inputs: NDArray[np.float32] | None


def makers_answers(arrays: Mapping[str, Tensor]) -> MakersAnswers:
    """Take `logits` and, if it is there, `inputs` of a reference's arrays; OnnxImportError if they do not fit."""
    logits, inputs = (arrays[name].float().numpy() if name in arrays else None for name in ("logits", "inputs"))
    if logits is None or logits.ndim != 2 or (inputs is not None and len(inputs) != len(logits)):
        raise OnnxImportError("the reference must have a row of `logits`, and one of `inputs` if it has any, a picture")
    return MakersAnswers(logits, inputs)


def prove_by_reference(
    reference: MakersAnswers,
    served: Scores,
    origin: Origin,
    pictures: Sequence[SamplePicture],
    score: Callable[[NDArray[np.float32]], Scores],
) -> Agreement:
    """Compare a served model's logits with the reference; OnnxImportError names the stage that differs.

    `score` gives the logits of inputs of the origin's graph.
    """
    if reference.logits.shape != served.shape:
        raise OnnxImportError(
            f"the reference has logits {list(reference.logits.shape)}, and {len(served)} pictures have "
            f"{list(served.shape)}: it must have a row for each file of --pictures, in the order of their paths"
        )
    in_its_form = softmax if sum_to_one(reference.logits) else _as_they_are
    found = in_its_form(served)
    agreement = compare(found, reference.logits, _CLOSE)
    if distance(found, reference.logits) <= _CLOSE and agreement.same + agreement.ties == len(served):
        return agreement
    raise OnnxImportError(
        f"the maker's own answers are others: {agreement.same} of {agreement.pictures} pictures get the same class. "
        + _cause(reference, _most_different(found, reference.logits), origin, pictures, score, in_its_form)
    )


def _most_different(found: Scores, expected: Scores) -> NDArray[np.intp]:
    """The pictures, by their numbers, on which the cause is sought: it may lie in few of them."""
    return np.sort(np.argsort(-np.abs(found - expected).max(1), kind="stable")[:TRIED])


def _as_they_are(logits: Scores) -> Scores:
    return logits


def _cause(
    reference: MakersAnswers,
    chosen: NDArray[np.intp],
    origin: Origin,
    pictures: Sequence[SamplePicture],
    score: Callable[[NDArray[np.float32]], Scores],
    in_its_form: Callable[[Scores], Scores],
) -> str:
    """The first stage that differs in the chosen pictures, by the maker's inputs if they are there, else by answers."""
    answers, files = reference.logits[chosen], [pictures[index].data for index in chosen]

    def inputs(other: Origin) -> NDArray[np.float32]:
        return other.inputs(np.stack([other.pixels(file) for file in files]))

    given = inputs(origin)
    own = score(given)
    for words, twist in _TWISTS.items():
        if distance(twist(own), answers) <= _CLOSE:
            return f"Stage graph: the maker's script {words}; --reference needs what the graph itself gives"

    def answer(other: Origin) -> Scores:
        changed = inputs(other)
        return in_its_form(score(changed)) if changed.shape == given.shape else changed

    changes = (*pixel_changes(origin), *input_changes(origin))
    if reference.inputs is None:
        change = explain(origin, answers, answer, changes)
    elif distance(given, expected := reference.inputs[chosen]) > EQUAL:
        pixels = np.stack([origin.pixels(file) for file in files])
        change = explain(origin, expected, inputs, (*changes, *fitted_normalisation(origin, pixels, expected)))
    else:
        return "Stage graph: the inputs are the same, and the maker's graph answers otherwise: it is another file"
    if change is None:
        hint = "" if reference.inputs is not None else "; with `inputs` in the reference more can be told"
        return f"No single step that is often taken otherwise explains it{hint}"
    return f"Stage {change.stage}: the maker's script {change.words}; {change.remedy}"
