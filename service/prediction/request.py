"""One prediction request, from its complete body to its answer; knows nothing of the HTTP library around it.

It advances by callbacks rather than as a coroutine: from a worker's reply to the bytes of the answer there is then no
turn of the event loop, and no task or future to make for each request.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from models.images.preprocessor import Preprocessor
from service.errors import DeadlineExceeded, ServiceError, problem
from service.metrics.metrics import REJECTIONS, Metrics
from service.prediction.admission import Admission
from service.prediction.batcher import Batcher
from service.prediction.body import parse
from service.prediction.deadlines import Deadlines
from service.prediction.decoding import Decoder, Decoding, Pixels
from service.prediction.head import Head
from service.prediction.image_task import Item, Outcome, Result
from service.prediction.model_status import Status
from service.prediction.response import Answer, fail
from service.repository import Catalog
from service.settings import Settings

_taken_ns, _done_ns = attrgetter("taken_ns"), attrgetter("done_ns")


@dataclass(frozen=True, slots=True)
class Parts:
    """What predictions are made with, one of each in an API process."""

    catalog: Catalog
    preprocessors: Sequence[Preprocessor]
    status: Status
    admission: Admission
    deadlines: Deadlines
    decoder: Decoder
    batcher: Batcher
    metrics: Metrics
    settings: Settings


class Prediction:
    """A request on its way: parsed, let in, decoded, queued, run, rendered.

    `done` is called once the answer is complete, exactly once, unless `cancel` came before. Every error becomes an
    answer.
    """

    def __init__(
        self, parts: Parts, head: Head, body: bytes, deadline_ns: int, answer: Answer, done: Callable[[], None]
    ) -> None:
        """`deadline_ns`: of the monotonic clock."""
        self._parts, self._head, self._body = parts, head, body
        self._deadline_ns, self._answer, self._done = deadline_ns, answer, done
        self._ended = False
        self._slots: list[int] = []  # that no item has yet
        self._decoding: Decoding | None = None
        self._items: list[Item] = []
        self._missing = 0
        self._tick: int | None = None  # of its deadline

    def run(self) -> None:
        """Go as far as can be gone now; the rest follows when pixels and results are there."""
        try:
            self._begin()
        except Exception as error:
            self._fail(error)

    def cancel(self) -> None:
        """Nobody wants the answer any more: what has not begun is dropped."""
        self._end()

    def _begin(self) -> None:
        parts, head, answer = self._parts, self._head, self._answer
        self._place = place = parts.catalog.find(head.target.model, head.target.version)
        self._artifact = artifact = parts.catalog.artifacts[place]
        answer.model, answer.version = artifact.name, str(artifact.version)
        self._top_k = min(head.top_k, artifact.classes)
        images, self._several = parse(head.content_type, self._body, parts.settings.max_images_per_request)
        self._images = images
        parts.status.check(place)
        left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed while the request was being received")
        self._slots = parts.admission.acquire(len(images), place, left_s)
        self._tick = parts.deadlines.add(self._deadline_ns, self._expire)
        self._decoding = parts.decoder.decode(parts.preprocessors[place], images, self._on_pixels)

    def _on_pixels(self, decoded: Sequence[Pixels | ServiceError]) -> None:
        """All images are decoded, each with its pixels or its own error."""
        self._decoding = None  # it knows the pixels, too
        if self._ended:  # since the last of them was
            return
        self._answer.journey.pixels_ns = time.monotonic_ns()
        self._missing = len(decoded)
        for pixels in decoded:
            item = Item(self._slots.pop(), self._place, self._top_k, self._deadline_ns, self._on_outcome)
            self._items.append(item)
            if isinstance(pixels, ServiceError):
                self._parts.admission.release((item.slot,))
                item.finish(pixels)
            else:
                self._parts.batcher.submit(item, pixels)

    def _on_outcome(self) -> None:
        self._missing -= 1
        if not self._missing:
            try:
                self._complete([item.outcome for item in self._items if item.outcome is not None])
            except Exception as error:
                self._fail(error)

    def _complete(self, outcomes: list[Outcome]) -> None:
        self._count_images(outcomes)
        if not self._several and isinstance(outcomes[0], ServiceError):
            self._fail(outcomes[0])  # raised it would know this frame, and the frame it
            return
        ran = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        journey = self._answer.journey
        journey.taken_ns = min(map(_taken_ns, ran), default=journey.pixels_ns)
        journey.done_ns = max(map(_done_ns, ran), default=journey.pixels_ns)
        rendered = [self._render(outcome) for outcome in outcomes]
        self._answer.succeed({"results": rendered} if self._several else rendered[0])
        self._finish()

    def _count_images(self, outcomes: Sequence[Outcome]) -> None:
        metrics = self._parts.metrics
        for image, outcome in zip(self._images, outcomes, strict=True):
            metrics.image_bytes.observe(len(image))
            if isinstance(outcome, ServiceError) and outcome.code in REJECTIONS:
                metrics.images_rejected.inc(outcome.code)

    def _render(self, outcome: Outcome) -> dict[str, Any]:
        if isinstance(outcome, ServiceError):
            return problem(outcome, self._answer.request_id)
        labels = self._artifact.labels
        self._answer.tops.append((labels[outcome.indices[0]], outcome.probabilities[0]))
        ranked = zip(outcome.indices, outcome.probabilities, strict=True)
        predictions = [{"label": labels[index], "index": index, "probability": p} for index, p in ranked]
        return {"predictions": predictions, "batch_size": outcome.batch_size}

    def _expire(self) -> None:
        self._fail(DeadlineExceeded("the deadline passed before the answer was there"))

    def _fail(self, error: Exception) -> None:
        if not self._ended:
            fail(self._answer, error)
            self._finish()

    def _finish(self) -> None:
        self._end()
        self._done()

    def _end(self) -> None:
        self._ended = True
        if self._tick:
            self._parts.deadlines.remove(self._tick, self._expire)
        if self._decoding:
            self._decoding.cancel()
        if self._slots:
            self._parts.admission.release(self._slots)
            self._slots.clear()
        for item in self._items:
            if item.wanted:
                self._parts.batcher.withdraw(item)
        self._items.clear()  # each knows this prediction
