"""One prediction request, from its body to its answer; knows nothing of the web framework around it."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from models.artifact import Artifact
from models.preprocess import Preprocessor
from service.admission import Admission
from service.answer import JSON, Answer, Journey, fail
from service.batching import Batcher, Result
from service.body import parse
from service.decoding import Decoder
from service.errors import BadRequest, DeadlineExceeded, ServiceError, problem
from service.metrics import REJECTIONS, Metrics
from service.repository import Catalog
from service.settings import Settings
from service.status import Status
from service.target import Target

DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Request:
    """A prediction request whose body is complete; header names are in lower case."""

    target: Target
    query: str
    headers: Mapping[str, str]
    body: bytes
    journey: Journey


class Predictor:
    """Answers prediction requests in one API process."""

    def __init__(
        self,
        catalog: Catalog,
        status: Status,
        admission: Admission,
        batcher: Batcher,
        decoder: Decoder,
        metrics: Metrics,
        settings: Settings,
    ) -> None:
        self._catalog, self._status, self._admission, self._batcher = catalog, status, admission, batcher
        self._decoder, self._metrics, self._settings = decoder, metrics, settings
        self._preprocessors = [
            Preprocessor(artifact.metadata.preprocessing, settings.max_pixels) for artifact in catalog.artifacts
        ]

    async def predict(self, request: Request, answer: Answer) -> None:
        """Complete the answer to a request; every error but cancellation becomes an answer."""
        try:
            self._succeed(answer, await self._classify(request, answer))
        except Exception as error:
            fail(answer, error)

    async def _classify(self, request: Request, answer: Answer) -> dict[str, Any]:
        """The answer's own part: what the images show."""
        place = self._catalog.find(request.target.model, request.target.version)
        artifact = self._catalog.artifacts[place]
        answer.model, answer.version = artifact.name, str(artifact.version)
        self._status.check(place)
        top_k = min(parse_top_k(request.query), artifact.classes)
        payload = parse(request.headers.get("content-type", ""), request.body, self._settings.max_images_per_request)
        deadline = self._deadline_ns(request)
        try:
            async with asyncio.timeout(_seconds_until(deadline)):
                found = await self._run(place, payload.images, top_k, deadline, answer.journey)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed before the answer was there") from error
        rendered = [self._render(artifact, one, answer) for one in found]
        if payload.several:
            return {"results": [one if isinstance(one, dict) else problem(one, answer.request_id) for one in rendered]}
        (only,) = rendered
        if isinstance(only, ServiceError):
            raise only
        return only

    def _deadline_ns(self, request: Request) -> int:
        timeout = parse_timeout_s(request.headers.get("x-request-timeout-ms"), self._settings.request_timeout)
        return request.journey.headers_ns + int(min(timeout, self._settings.max_request_timeout) * 1e9)

    async def _run(
        self, place: int, images: Sequence[bytes], top_k: int, deadline_ns: int, journey: Journey
    ) -> list[Result | ServiceError]:
        """Decode all images, then run those that decoded; each one's result, or its own error."""
        self._admission.check()
        free = self._admission.acquire(len(images))
        try:
            decoded = await self._decoder.decode(self._preprocessors[place], images)
            journey.pixels_ns = time.monotonic_ns()
            outcomes: list[asyncio.Future[Result] | ServiceError] = [
                self._batcher.submit(free.pop(), place, top_k, pixels, deadline_ns)
                if not isinstance(pixels, ServiceError)
                else pixels
                for pixels in decoded
            ]
        finally:
            for slot in free:
                self._admission.release(slot)
        results = await _gather(outcomes)
        self._count_images(images, results)
        _stamp(journey, results)
        return results

    def _count_images(self, images: Sequence[bytes], results: Sequence[Result | ServiceError]) -> None:
        for image, result in zip(images, results, strict=True):
            self._metrics.image_bytes.observe(len(image))
            if isinstance(result, ServiceError) and result.code in REJECTIONS:
                self._metrics.images_rejected.inc(result.code)

    def _render(
        self, artifact: Artifact, result: Result | ServiceError, answer: Answer
    ) -> dict[str, Any] | ServiceError:
        if isinstance(result, ServiceError):
            return result
        labels = artifact.labels
        answer.tops.append((labels[result.indices[0]], result.probabilities[0]))
        ranked = zip(result.indices, result.probabilities, strict=True)
        predictions = [{"label": labels[index], "index": index, "probability": p} for index, p in ranked]
        return {"predictions": predictions, "batch_size": result.batch_size}

    def _succeed(self, answer: Answer, found: dict[str, Any]) -> None:
        journey = answer.journey
        journey.written_ns = time.monotonic_ns()  # as near as what is inside the answer can know
        timings = {stage: round(s * 1e3, 3) for stage, s in journey.stages_s().items()}
        timings["total"] = round(journey.total_s * 1e3, 3)
        head = {"request_id": answer.request_id, "model": answer.model, "version": answer.version}
        answer.body = orjson.dumps(head | found | {"timings_ms": timings})
        answer.headers["content-type"] = JSON
        answer.headers["server-timing"] = ", ".join(f"{stage};dur={ms}" for stage, ms in timings.items())


def _seconds_until(deadline_ns: int) -> float:
    left = deadline_ns - time.monotonic_ns()
    if left <= 0:
        raise DeadlineExceeded("the deadline passed while the request was being received")
    return left / 1e9


def parse_top_k(query: str) -> int:
    """How many classes the client wants."""
    values = parse_qs(query, keep_blank_values=True).get("top_k", [str(DEFAULT_TOP_K)])
    if not (values[-1].isascii() and values[-1].isdigit() and int(values[-1][:9]) > 0):
        raise BadRequest(f"top_k must be a positive whole number, not {values[-1][:40]!r}")
    return int(values[-1][:9])


def parse_timeout_s(header: str | None, default_s: float) -> float:
    """Seconds that X-Request-Timeout-Ms gives the request."""
    if header is None:
        return default_s
    if not (header.isascii() and header.isdigit() and int(header[:9]) > 0):
        raise BadRequest(f"X-Request-Timeout-Ms must be a positive whole number, not {header[:40]!r}")
    return int(header[:9]) / 1e3


async def _gather(outcomes: Sequence[asyncio.Future[Result] | ServiceError]) -> list[Result | ServiceError]:
    """Each outcome's result or error; if nobody waits any longer, nothing is wanted any longer."""
    results: list[Result | ServiceError] = []
    try:
        for outcome in outcomes:
            try:
                results.append(outcome if isinstance(outcome, ServiceError) else await outcome)
            except ServiceError as error:
                results.append(error)
    finally:
        for outcome in outcomes:
            if isinstance(outcome, asyncio.Future):
                outcome.cancel()
                if not outcome.cancelled():
                    outcome.exception()  # seen, so that asyncio does not report it as forgotten
    return results


def _stamp(journey: Journey, results: Sequence[Result | ServiceError]) -> None:
    """When the first image was taken up by a worker and the last came back."""
    ran = [result for result in results if isinstance(result, Result)]
    journey.taken_ns = min((result.taken_ns for result in ran), default=journey.pixels_ns)
    journey.done_ns = max((result.done_ns for result in ran), default=journey.pixels_ns)
