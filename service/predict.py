"""One prediction request, from its complete body to its answer; knows nothing of the HTTP library around it.

It advances by callbacks rather than as a coroutine: from a worker's reply to the bytes of the answer there is then no
turn of the event loop, and no task or future to make for each request.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from models.preprocess import Preprocessor
from service.admission import Admission
from service.answer import Answer, fail
from service.batching import Batcher
from service.body import parse
from service.decoding import Decoder, Decoding, Pixels
from service.errors import BadRequest, DeadlineExceeded, ServiceError, problem
from service.item import Item, Result
from service.metrics import REJECTIONS, Metrics
from service.repository import Catalog
from service.settings import Settings
from service.status import Status
from service.target import Target

DEFAULT_TOP_K = 5

Outcome = Result | ServiceError


class Request(NamedTuple):
    """A prediction request whose body is complete; header names are in lower case."""

    target: Target
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    deadline_ns: int  # of the monotonic clock


@dataclass(frozen=True, slots=True)
class Parts:
    """What predictions are made with, one of each in an API process."""

    catalog: Catalog
    preprocessors: Sequence[Preprocessor]
    status: Status
    admission: Admission
    decoder: Decoder
    batcher: Batcher
    metrics: Metrics
    settings: Settings


class Prediction:
    """A request on its way: parsed, let in, decoded, queued, run, rendered.

    `done` is called once the answer is complete, exactly once, unless `cancel` came before. Every error becomes an
    answer.
    """

    def __init__(self, parts: Parts, request: Request, answer: Answer, done: Callable[[], None]) -> None:
        self._parts, self._request, self._answer, self._done = parts, request, answer, done
        self._ended = False
        self._slots: list[int] = []  # that no item has yet
        self._decoding: Decoding | None = None
        self._items: list[Item] = []
        self._outcomes: list[Outcome | None] = []
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None

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
        parts, request, answer = self._parts, self._request, self._answer
        self._place = parts.catalog.find(request.target.model, request.target.version)
        self._artifact = parts.catalog.artifacts[self._place]
        answer.model, answer.version = self._artifact.name, str(self._artifact.version)
        self._top_k = min(parse_top_k(request.query), self._artifact.classes)
        self._payload = parse(
            request.headers.get(b"content-type", b""), request.body, parts.settings.max_images_per_request
        )
        parts.status.check(self._place)
        left_s = (request.deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed while the request was being received")
        images = self._payload.images
        self._slots = parts.admission.acquire(len(images), self._place, left_s)
        self._timer = asyncio.get_running_loop().call_later(left_s, self._expire)
        self._decoding = parts.decoder.decode(parts.preprocessors[self._place], images, self._on_pixels)

    def _on_pixels(self, decoded: Sequence[Pixels | ServiceError]) -> None:
        """All images are decoded, each with its pixels or its own error."""
        self._decoding = None  # it knows the pixels, too
        if self._ended:  # since the last of them was
            return
        self._answer.journey.pixels_ns = time.monotonic_ns()
        self._outcomes = [None] * len(decoded)
        self._missing = len(decoded)
        for place, pixels in enumerate(decoded):
            slot, on_done = self._slots.pop(), partial(self._on_outcome, place)
            if isinstance(pixels, ServiceError):
                self._parts.admission.release(slot)
                on_done(pixels)
            else:
                item = Item(slot, self._place, self._top_k, self._request.deadline_ns, on_done)
                self._items.append(item)
                self._parts.batcher.submit(item, pixels)

    def _on_outcome(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        self._missing -= 1
        if not self._missing:
            try:
                self._complete([outcome for outcome in self._outcomes if outcome is not None])
            except Exception as error:
                self._fail(error)

    def _complete(self, outcomes: list[Outcome]) -> None:
        self._count_images(outcomes)
        if not self._payload.several and isinstance(outcomes[0], ServiceError):
            self._fail(outcomes[0])  # raised it would know this frame, and the frame it
            return
        ran = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        journey = self._answer.journey
        journey.taken_ns = min([result.taken_ns for result in ran], default=journey.pixels_ns)
        journey.done_ns = max([result.done_ns for result in ran], default=journey.pixels_ns)
        rendered = [self._render(outcome) for outcome in outcomes]
        self._answer.succeed({"results": rendered} if self._payload.several else rendered[0])
        self._finish()

    def _count_images(self, outcomes: Sequence[Outcome]) -> None:
        metrics = self._parts.metrics
        for image, outcome in zip(self._payload.images, outcomes, strict=True):
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
        if self._timer:
            self._timer.cancel()
        if self._decoding:
            self._decoding.cancel()
        while self._slots:
            self._parts.admission.release(self._slots.pop())
        for item in self._items:
            if item.wanted:
                self._parts.batcher.withdraw(item)
        self._items.clear()  # each knows this prediction


@lru_cache(maxsize=64)  # a client asks in the same words each time
def parse_top_k(query: bytes) -> int:
    """How many classes the client wants."""
    if not query:
        return DEFAULT_TOP_K
    value = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("top_k", [str(DEFAULT_TOP_K)])[-1]
    if not is_positive(value):
        raise BadRequest(f"top_k must be a positive whole number, not {value[:40]!r}")
    return int(value)


def parse_timeout_s(headers: Mapping[bytes, bytes], default_s: float, most_s: float) -> float:
    """Seconds that X-Request-Timeout-Ms gives the request, at most `most_s`."""
    value = headers.get(b"x-request-timeout-ms")
    if value is None:
        return min(default_s, most_s)
    if not is_positive(text := value.decode("latin-1")):
        raise BadRequest(f"X-Request-Timeout-Ms must be a positive whole number, not {text[:40]!r}")
    return min(int(text) / 1e3, most_s)


def is_positive(text: str) -> bool:
    """Whether a text is a positive whole number of at most nine digits."""
    return len(text) < 10 and text.isascii() and text.isdigit() and int(text) > 0
